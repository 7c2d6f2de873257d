// The page: a drawing or an image goes to the server whenever it changes, and the answer is shown.

import { Answer } from "./answer.js"
import { Drawing } from "./drawing.js"

const QUIET = 30 // milliseconds without a change after which the net is asked, or
const LONGEST = 90 // milliseconds of changes after which it is asked anyway
const SLOW = 80 // milliseconds of an answer from which on the layers are asked for only when the pen rests
const SPOKEN = 700 // milliseconds of rest after which a screen reader says the answer
const LARGE = 2 * 2 ** 20 // bytes of a file from which on it is made smaller here
const SIDE = 1600 // pixels of the longer side of such an image then
const $ = id => document.getElementById(id)

let model, answer, drawing
let photo = null // the image that is shown in place of the drawing
let asking = null // the request that is under way
let changed = false // since it was sent
let due = 0 // when the net is to be asked at the latest
let timer, speech
let took = 0 // milliseconds of the last answer

function say(text) {
  $("said").textContent = text
}

function trouble(text) {
  $("trouble").textContent = text
  $("trouble").hidden = !text
}

// --- Asking -----------------------------------------------------------------------------------------------------

/** Something changed: ask when it rests, or soon. */
function ask() {
  showTools()
  clearTimeout(speech)
  changed = true
  const now = performance.now()
  due ||= now + LONGEST
  clearTimeout(timer)
  timer = setTimeout(send, Math.max(0, Math.min(QUIET, due - now)))
}

/** Ask anew, and forget the request that is under way: its answer would be on something else. */
function askAnew() {
  asking?.abort()
  asking = null
  ask()
}

async function send() {
  if (asking) return // with its answer comes the next request
  due = 0
  changed = false
  if (!photo && (!drawing || drawing.isEmpty)) {
    answer.clear()
    trouble("")
    return
  }
  const request = asking = new AbortController()
  try {
    const resting = photo !== null || drawing.isResting
    const body = photo ?? await drawing.image(model.ink)
    if (request.signal.aborted) return
    const response = await fetch(`api/predict?layers=${resting || took < SLOW}`, {
      method: "POST", body, headers: { "Content-Type": body.type }, signal: request.signal,
    })
    const found = await response.json()
    if (request.signal.aborted) return
    if (response.ok) {
      took = found.milliseconds
      trouble("")
      answer.show(found)
      clearTimeout(speech)
      speech = setTimeout(() => say(answer.spoken(found)), SPOKEN)
    } else {
      answer.clear("")
      trouble(found.error)
    }
  } catch (error) {
    if (request.signal.aborted) return
    trouble("The server does not answer. Is it still running? Draw on, or send the image again, to ask once more.")
  } finally {
    if (asking === request) {
      asking = null
      if (changed) send()
    }
  }
}

// --- Images -----------------------------------------------------------------------------------------------------

/** A file as the server takes it: other formats than its two, and large ones, are drawn anew. */
async function acceptable(file) {
  const image = await createImageBitmap(file) // fails for what no browser could show
  if (["image/png", "image/jpeg"].includes(file.type) && file.size <= LARGE) return file
  const scale = Math.min(1, SIDE / Math.max(image.width, image.height))
  const canvas = document.createElement("canvas")
  canvas.width = Math.max(1, Math.round(image.width * scale))
  canvas.height = Math.max(1, Math.round(image.height * scale))
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height)
  return new Promise(resolve => canvas.toBlob(resolve, "image/png"))
}

async function open(file) {
  let image
  try {
    image = await acceptable(file)
  } catch {
    trouble(`${file.name || "What you gave"} is no image that this browser can read. Take a PNG or JPEG file.`)
    return
  }
  photo = image
  if ($("photo").src) URL.revokeObjectURL($("photo").src)
  $("photo").src = URL.createObjectURL(image)
  $("photo").alt = file.name ? `The image ${file.name}` : "The image"
  showPhoto()
  askAnew()
}

function showPhoto() {
  $("photo").hidden = !photo
  $("empty").hidden = Boolean(photo || model.ink)
  $("canvas").hidden = Boolean(photo || !model.ink)
}

// --- Tools ------------------------------------------------------------------------------------------------------

function showTools() {
  $("undo").disabled = Boolean(photo) || drawing.isEmpty && !drawing.undone.at(-1)?.all
  $("redo").disabled = Boolean(photo) || !drawing.undone.length || Boolean(drawing.undone.at(-1).all)
  $("clear").disabled = !photo && drawing.isEmpty
  $("hint").hidden = Boolean(photo) || !drawing.isEmpty || !model.ink
}

function undo() {
  if (drawing.undone.at(-1)?.all) drawing.redo() // what was cleared comes back
  else drawing.undo()
}

function clear() {
  if (photo) {
    photo = null
    showPhoto()
  } else {
    drawing.clear()
  }
  askAnew()
  say("Cleared")
}

function listen() {
  $("undo").addEventListener("click", undo)
  $("redo").addEventListener("click", () => drawing.redo())
  $("clear").addEventListener("click", clear)
  $("pen").addEventListener("input", event => { drawing.pen = event.target.value / 100 })
  for (const button of document.querySelectorAll(".choose")) button.addEventListener("click", () => $("file").click())
  $("file").addEventListener("change", event => {
    if (event.target.files[0]) open(event.target.files[0])
    event.target.value = "" // so that the same file may be chosen again
  })
  addEventListener("paste", event => {
    const file = [...event.clipboardData.files].find(each => each.type.startsWith("image/"))
    if (file) open(file)
  })
  addEventListener("keydown", event => {
    const key = event.key.toLowerCase()
    const command = event.ctrlKey || event.metaKey
    const pressed = command && key === "z" && !event.shiftKey ? $("undo")
      : command && (key === "y" || key === "z") ? $("redo")
      : command && key === "o" ? $("upload")
      : key === "escape" ? $("clear") : null
    if (!pressed || event.altKey) return
    event.preventDefault()
    pressed.click()
  })
  let within = 0 // elements that something is dragged over
  const drag = (name, act) => addEventListener(name, event => {
    if (!event.dataTransfer.types.includes("Files")) return
    event.preventDefault()
    act(event)
    $("drop").hidden = within === 0
  })
  drag("dragenter", () => { within++ })
  drag("dragleave", () => { within-- })
  drag("dragover", () => {})
  drag("drop", event => {
    within = 0
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0])
  })
}

// --- The start --------------------------------------------------------------------------------------------------

/** What one draws for a net, from the names of its classes. */
function subject(classes) {
  if (classes.every(each => /^\d$/.test(each))) return "a digit"
  if (classes.every(each => /^[A-Za-z]$/.test(each))) return `a letter, ${classes[0]} to ${classes.at(-1)}`
  return null
}

async function start() {
  try {
    const response = await fetch("api/model")
    model = await response.json()
    if (!response.ok) throw new Error(model.error)
  } catch {
    trouble("The server does not answer. Is it still running? Then load this page again.")
    return
  }
  const what = subject(model.classes)
  const title = !model.ink ? "Show it an image" : `Draw ${what ?? "something that it knows"}`
  document.title = `${model.name} – funcnn`
  $("name").textContent = model.name
  $("facts").textContent = `${model.parameters.toLocaleString("en")} parameters, ${model.classes.length} classes`
  $("title").textContent = title
  $("hint").textContent = model.ink === "light" ? "Draw here, as light as the images that it learned" : "Draw here"
  document.body.dataset.ink = model.ink ?? "none"
  answer = new Answer(model, model.ink ? "Its answer shows here while you draw." : "Its answer shows here.")
  drawing = new Drawing($("canvas"), $("cursor"), { changed: ask, said: say })
  for (const id of ["undo", "redo", "thickness"]) $(id).hidden = !model.ink
  if (/Mac|iP/.test(navigator.platform)) for (const key of document.querySelectorAll(".command")) key.textContent = "⌘"
  showPhoto()
  showTools()
  listen()
  document.body.classList.add("ready")
}

start()
