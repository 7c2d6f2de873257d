// What the net answers, shown: the verdict, the bars, what it sees.

const MANY = 12 // classes of which each has a bar at its place; of more, the likeliest are shown
const SHOWN = 10
const $ = id => document.getElementById(id)

/** A share as people read it. */
function percent(share) {
  if (share >= 0.9995) return "> 99.9%"
  return share < 0.0005 ? "0%" : `${(100 * share).toFixed(1)}%`
}

/** A share in a sentence. */
function sure(share) {
  return percent(share).replace(">", "more than")
}

function element(name, className, text = "") {
  const made = document.createElement(name)
  made.className = className
  made.textContent = text
  return made
}

/** A remark of the server's as a sentence. */
function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}.`
}

export class Answer {
  constructor(model, hint) {
    this.model = model
    this.hint = hint
    this.bars = model.classes.slice(0, model.classes.length > MANY ? SHOWN : MANY).map(() => {
      const bar = element("li", "")
      bar.append(element("span", "label"), element("span", "track"), element("span", "share"))
      bar.children[1].append(element("span", "fill"))
      return bar
    })
    $("bars").replaceChildren(...this.bars)
    $("bars").classList.toggle("many", model.classes.length > MANY)
    const { height, width, channels } = model.input
    $("size").textContent = `${height} × ${width} pixels${channels === 1 ? ", grey" : ""}`
    this.clear()
  }

  /** Nothing is drawn. */
  clear(sentence = this.hint) {
    $("class").textContent = "?"
    $("sentence").textContent = sentence
    $("warning").hidden = true
    document.body.classList.remove("answered")
    this.#showBars(this.model.classes.map(() => 0), -1)
    $("prepared").hidden = true
    $("stages").replaceChildren()
  }

  show(answer) {
    if (answer.class === null) {
      this.clear(sentence(answer.warning))
      return
    }
    document.body.classList.add("answered")
    const best = answer.probabilities.indexOf(Math.max(...answer.probabilities))
    $("class").textContent = answer.class
    $("class").classList.toggle("word", answer.class.length > 2)
    $("sentence").textContent = `${sure(answer.probability)} sure`
    $("warning").textContent = answer.warning ? sentence(answer.warning) : ""
    $("warning").hidden = answer.warning === null
    this.#showBars(answer.probabilities, best)
    $("prepared").src = `data:image/png;base64,${answer.prepared}`
    $("prepared").alt = "The image as the net is given it"
    $("prepared").hidden = false
    if (answer.layers) this.#showStages(answer.layers)
  }

  /** What a screen reader is to say of an answer. */
  spoken(answer) {
    const found = answer.class === null ? "" : `${answer.class}, ${sure(answer.probability)}. `
    return found + (answer.warning ? sentence(answer.warning) : "")
  }

  #showBars(shares, best) {
    let order = shares.map((_, i) => i)
    if (shares.length > MANY) order = order.sort((a, b) => shares[b] - shares[a])
    this.bars.forEach((bar, place) => {
      const i = order[place]
      const [label, track, share] = bar.children
      label.textContent = label.title = this.model.classes[i]
      track.firstChild.style.transform = `scaleX(${shares[i]})`
      share.textContent = best < 0 ? "" : percent(shares[i])
      bar.classList.toggle("best", i === best)
    })
  }

  /** The maps; images that are there get new pixels, so that nothing jumps. */
  #showStages(layers) {
    const shape = JSON.stringify(layers.map(each => each.maps.length))
    if ($("stages").dataset.shape !== shape || !$("stages").children.length) {
      $("stages").dataset.shape = shape
      $("stages").replaceChildren(...layers.map(each => this.#stage(each)))
    }
    layers.forEach((layer, i) => {
      const images = $("stages").children[i].querySelectorAll("img")
      layer.maps.forEach((map, j) => { images[j].src = `data:image/png;base64,${map}` })
    })
  }

  #stage(layer) {
    const stage = element("figure", layer.shape.length === 1 ? "stage units" : "stage")
    const maps = element("div", "maps")
    maps.append(...layer.maps.map(() => {
      const frame = element("span", "map")
      const image = element("img", "")
      image.alt = ""
      frame.append(image)
      return frame
    }))
    const names = layer.layers.map(each => each.split("(")[0])
    const count = layer.shape.at(-1)
    const shown = layer.maps.length < count ? `${layer.maps.length} of ` : ""
    const size = layer.shape.length === 1 ? `${count} units` : `${shown}${count} maps of ${layer.shape[0]} × ${layer.shape[1]}`
    const caption = element("figcaption", "")
    caption.append(element("b", "", names.join(", ")), ` ${size}`)
    stage.append(maps, caption)
    return stage
  }
}
