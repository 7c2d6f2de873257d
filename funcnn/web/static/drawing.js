// A drawing: strokes of points in a square of side 1, drawn on a canvas as they come, and as an image for the net.

const SIDE = 280 // pixels of the image that is sent
const STEP = 1 / 40 // that an arrow key moves by

/** How wide a stroke is at a point: a pen's pressure counts, a finger and a mouse have none. */
function widthAt(event, pen) {
  return event.pointerType === "pen" && event.pressure > 0 ? pen * (0.4 + 1.2 * event.pressure) : pen
}

/**
 * Draw a stroke from one of its points on: a smooth curve through the middles between points, and to its last point if
 * it is `done`. What has one width is one path, so that its edges are even.
 */
function trace(context, side, points, from, done) {
  const place = ({ x, y }) => [x * side, y * side]
  const middle = (a, b) => [(a.x + b.x) / 2 * side, (a.y + b.y) / 2 * side]
  if (points.length === 1) {
    context.beginPath()
    context.arc(...place(points[0]), points[0].width * side / 2, 0, 2 * Math.PI)
    context.fill()
    return
  }
  context.lineCap = context.lineJoin = "round"
  let width = null
  for (let i = from; i < points.length; i++) {
    const [last, point] = [points[i - 1], points[i]]
    const its = (last.width + point.width) / 2 * side
    if (its !== width) {
      if (width !== null) context.stroke()
      context.lineWidth = width = its
      context.beginPath()
      context.moveTo(...(i === 1 ? place(last) : middle(points[i - 2], last)))
    }
    context.quadraticCurveTo(...place(last), ...middle(last, point))
  }
  if (done) context.lineTo(...place(points.at(-1)))
  if (width !== null) context.stroke()
}

export class Drawing {
  /** `changed` is called with each change, `said` with what a screen reader is to say. */
  constructor(canvas, cursor, { changed, said }) {
    Object.assign(this, { canvas, cursor, changed, said, pen: 0.07, strokes: [], undone: [], at: { x: 0.5, y: 0.5 } })
    this.active = new Map() // strokes that are being drawn, by the pointer's id
    this.typed = null // the stroke that is being drawn by keys
    canvas.addEventListener("pointerdown", event => this.#down(event))
    canvas.addEventListener("pointermove", event => this.#move(event))
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, event => this.#up(event))
    // A finger's stroke is no gesture: the end of one would swallow a tap on a button right after it.
    canvas.addEventListener("touchstart", event => event.preventDefault(), { passive: false })
    canvas.addEventListener("keydown", event => this.#key(event))
    canvas.addEventListener("focus", () => { cursor.hidden = !canvas.matches(":focus-visible"); this.#moveCursor() })
    canvas.addEventListener("blur", () => { cursor.hidden = true; this.typed = null })
    new ResizeObserver(() => this.draw()).observe(canvas)
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw())
  }

  get isEmpty() { return this.strokes.length === 0 }
  get isResting() { return this.active.size === 0 && !this.typed }

  undo() { this.#take(this.strokes, this.undone) }
  redo() { this.#take(this.undone, this.strokes) }

  /** Take everything away; one undo brings it back. */
  clear() {
    if (this.isEmpty) return
    this.undone = [{ all: this.strokes }]
    this.strokes = []
    this.#anew()
  }

  /** The drawing as a PNG file, with "dark" ink on white or "light" ink on black. */
  async image(ink) {
    const canvas = document.createElement("canvas")
    canvas.width = canvas.height = SIDE
    const context = canvas.getContext("2d")
    context.fillStyle = ink === "dark" ? "#fff" : "#000"
    context.fillRect(0, 0, SIDE, SIDE)
    context.fillStyle = context.strokeStyle = ink === "dark" ? "#000" : "#fff"
    for (const stroke of this.strokes) trace(context, SIDE, stroke, 1, true)
    return new Promise(resolve => canvas.toBlob(resolve, "image/png"))
  }

  /** Draw everything anew, in as many pixels as the canvas has on the screen. */
  draw() {
    const side = Math.round(this.canvas.clientWidth * devicePixelRatio)
    if (!side) return
    this.canvas.width = this.canvas.height = side
    const context = this.#context()
    for (const stroke of this.strokes) trace(context, side, stroke, 1, true)
  }

  // --- Strokes

  #context() {
    const context = this.canvas.getContext("2d")
    context.fillStyle = context.strokeStyle = getComputedStyle(this.canvas).color
    return context
  }

  #begin(point) {
    const stroke = [point]
    this.strokes.push(stroke)
    this.undone = []
    trace(this.#context(), this.canvas.width, stroke, 1, false)
    this.changed()
    return stroke
  }

  #extend(stroke, points) {
    const from = stroke.length
    stroke.push(...points)
    trace(this.#context(), this.canvas.width, stroke, from, false)
    this.changed()
  }

  #take(from, to) {
    const taken = from.pop()
    if (!taken) return
    if (taken.all) this.strokes = taken.all // what was cleared
    else to.push(taken)
    this.#anew()
  }

  #anew() {
    this.active.clear()
    this.typed = null
    this.draw()
    this.changed()
  }

  // --- Mouse, pen, finger

  #point(event) {
    const box = this.canvas.getBoundingClientRect()
    return {
      x: (event.clientX - box.left) / box.width,
      y: (event.clientY - box.top) / box.height,
      width: widthAt(event, this.pen),
    }
  }

  #down(event) {
    const palm = event.pointerType === "touch" && [...this.active.values()].some(each => each.byPen)
    if (event.button !== 0 || palm) return
    event.preventDefault()
    this.canvas.focus({ preventScroll: true, focusVisible: false })
    this.cursor.hidden = true
    this.canvas.setPointerCapture(event.pointerId)
    this.active.set(event.pointerId, { stroke: this.#begin(this.#point(event)), byPen: event.pointerType === "pen" })
  }

  #move(event) {
    const stroke = this.active.get(event.pointerId)?.stroke
    if (!stroke) return
    const events = event.getCoalescedEvents?.() ?? []
    this.#extend(stroke, (events.length ? events : [event]).map(each => this.#point(each)))
  }

  #up(event) {
    if (!this.active.delete(event.pointerId)) return
    this.draw()
    this.changed()
  }

  // --- Keys

  #key(event) {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key]
    if (event.ctrlKey || event.metaKey || event.altKey || !(move || event.key === " ")) return
    event.preventDefault()
    this.cursor.hidden = false
    if (event.key === " ") {
      if (event.repeat) return
      this.typed = this.typed ? null : this.#begin({ ...this.at, width: this.pen })
      if (!this.typed) this.draw()
      this.said(this.typed ? "Pen down" : "Pen up")
      this.changed()
    } else {
      const step = event.shiftKey ? STEP / 4 : STEP
      const within = value => Math.min(1, Math.max(0, value))
      this.at = { x: within(this.at.x + step * move[0]), y: within(this.at.y + step * move[1]) }
      if (this.typed) this.#extend(this.typed, [{ ...this.at, width: this.pen }])
    }
    this.#moveCursor()
  }

  #moveCursor() {
    this.cursor.style.left = `${100 * this.at.x}%`
    this.cursor.style.top = `${100 * this.at.y}%`
    this.cursor.classList.toggle("down", this.typed !== null)
  }
}
