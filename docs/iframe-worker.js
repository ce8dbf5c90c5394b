// The search of the documentation runs in a worker, and browsers allow no workers on pages that are
// opened as files. There, an invisible frame does a worker's job.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.append(this.frame)
      const page = this.frame.contentWindow
      this.receive = event => {
        if (event.source === page) {
          this.dispatchEvent(new MessageEvent("message", { data: event.data }))
        }
      }
      window.addEventListener("message", this.receive)
      page.document.open()
      page.document.write(
        "<!doctype html><script>" +
          "postMessage = message => parent.postMessage(message, '*');" +
          "importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise(" +
          "(done, failed) => { const script = document.createElement('script');" +
          "script.src = url; script.onload = done; script.onerror = failed;" +
          "document.body.append(script) })), Promise.resolve())" +
          `<\/script><body><script src="${new URL(url, document.baseURI)}"><\/script>`
      )
      page.document.close()
      this.ready = new Promise(resolve => { page.onload = resolve })
    }

    postMessage(data) {
      this.ready.then(() => {
        const page = this.frame.contentWindow
        const message = new page.MessageEvent("message", { data, source: window })
        page.dispatchEvent(message)
      })
    }

    terminate() {
      window.removeEventListener("message", this.receive)
      this.frame.remove()
    }
  }
}
