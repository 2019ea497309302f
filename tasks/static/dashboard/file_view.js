// The preview of a file: `<file-view>` in a disclosure, loaded once that is open.

class FileView extends HTMLElement {
  connectedCallback() {
    const disclosure = this.closest("details");
    disclosure.addEventListener("toggle", () => this.load(disclosure));
    this.load(disclosure);
  }

  async load(disclosure) {
    if (!disclosure.open || this.isLoading) return;
    this.isLoading = true;
    try {
      const reply = await fetch(this.getAttribute("src"));
      if (reply.redirected) return location.reload(); // the session has ended
      if (!reply.ok) throw new TypeError(reply.statusText);
      this.innerHTML = await reply.text();
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      this.isLoading = false;
      this.textContent = "The preview cannot be loaded. Close and open it to try again.";
    }
  }
}

customElements.define("file-view", FileView);
