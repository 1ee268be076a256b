// Returns the text that a block of the page holds packed.
const unpack = async (id) => {
  const letters = atob(document.getElementById(id).textContent);
  const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
};

// Where panels have no room beside each other, figures are those that have them below each other.
(() => {
  if (!document.getElementById("narrow") || typeof DecompressionStream === "undefined") return;
  const media = matchMedia("(max-width: 879px)"), wide = new Map();
  let narrow = null;
  const choose = async () => {
    if (media.matches && narrow === null) {
      narrow = unpack("narrow").then(JSON.parse);
      for (const name of Object.keys(await narrow)) {
        wide.set(name, document.querySelector(`#${CSS.escape(name)} img`).src);
      }
    }
    if (narrow === null) return;
    for (const [name, source] of Object.entries(await narrow)) {
      const image = document.querySelector(`#${CSS.escape(name)} img`);
      image.src = media.matches ? source : wide.get(name);
    }
    document.documentElement.dataset.panels = media.matches ? "below" : "beside";
  };
  media.addEventListener("change", choose);
  choose();
})();

// Sorts a table by the column whose header was clicked; cells without a number come last.
for (const table of document.querySelectorAll("table.sortable")) {
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const head = button.parentNode, column = head.cellIndex, body = table.tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.sort;
    const number = (text) => (text.trim() === "" ? NaN : Number(text));
    const compare = (a, b) => {
      const x = number(key(a)), y = number(key(b));
      if (!isNaN(x) && !isNaN(y)) return x === y ? 0 : x < y === down ? 1 : -1;
      if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1;
      return key(a).localeCompare(key(b), "en", { numeric: true }) * (down ? -1 : 1);
    };
    body.append(...[...body.rows].sort(compare));
  });
}

// Copies the text of what a button names: a command, a paragraph, a table.
for (const button of document.querySelectorAll("button[data-copy]")) {
  const said = button.textContent;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy).textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // a file opened from disk may have no clipboard: the old way needs none
      const box = document.createElement("textarea");
      box.value = text;
      document.body.append(box);
      box.select();
      document.execCommand("copy");
      box.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = said; }, 1500);
  });
}
