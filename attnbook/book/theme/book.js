// The buttons of code blocks, tables that sort, and keyboard access to what scrolls. No dependency.
(() => {
  "use strict";
  const status = document.createElement("div");
  status.className = "book-status";
  status.setAttribute("role", "status");
  status.setAttribute("aria-live", "polite");

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Not a secure context (a file, a plain address), or the browser refused: the old way.
      const area = document.createElement("textarea");
      area.value = text;
      area.style.cssText = "position:fixed;top:0;opacity:0";
      document.body.append(area);
      const focused = document.activeElement;
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      focused?.focus();
      if (!done) throw new Error("the browser refused to copy");
    }
  }

  function button(label, title, text) {
    const element = document.createElement("button");
    element.type = "button";
    element.className = "book-button";
    element.textContent = label;
    element.title = title;
    let timer;
    element.addEventListener("click", async () => {
      clearTimeout(timer);
      let said = "Copied";
      try {
        await copy(text());
      } catch {
        said = "Copying failed";
      }
      element.textContent = said;
      element.dataset.done = said === "Copied" ? "yes" : "no";
      status.textContent = said === "Copied" ? `${said}: ${title.toLowerCase()}` : said;
      timer = setTimeout(() => {
        element.textContent = label;
        delete element.dataset.done;
        status.textContent = "";
      }, 1600);
    });
    return element;
  }

  function scripts() {
    const element = document.getElementById("book-scripts");
    return element ? JSON.parse(element.textContent) : { pieces: [], copy: {} };
  }

  function buttons() {
    const known = scripts();
    for (const block of document.querySelectorAll(".book-code, .doc .highlight")) {
      if (block.closest(".doc-signature")) continue;
      if (block.querySelector(".book-button")) continue;
      const code = block.querySelector("code");
      if (!code) continue;
      let bar = block.querySelector(".book-bar");
      if (!bar) {
        bar = document.createElement("div");
        bar.className = "book-bar";
        block.prepend(bar);
        block.classList.add("book-code");
      }
      const index = block.dataset.block;
      const own = known.copy[index];
      bar.append(
        button("Copy", "This block, without prompts and outputs", () => own ?? plain(code)),
      );
      if (known.pieces[index]) {
        const title = "This block with all it needs, to run by itself";
        const script = () => attnbookScript(known.pieces, Number(index));
        bar.append(button("Copy runnable", title, script));
      }
    }
  }

  // The text of code that is not the page's own (shell, docstrings): no prompts, no outputs.
  function plain(code) {
    if (!code.querySelector(".gp")) return code.textContent.trimEnd() + "\n";
    const clone = code.cloneNode(true);
    for (const prompt of clone.querySelectorAll(".gp")) prompt.textContent = "\u0001";
    for (const output of clone.querySelectorAll(".go, .gt, .gr")) output.remove();
    const lines = clone.textContent.split("\n").filter((line) => line.includes("\u0001"));
    return lines.map((line) => line.replaceAll("\u0001", "")).join("\n") + "\n";
  }

  // A heading that is pressed sorts its table by that column, and pressed again the other way round.
  function sortable(table) {
    for (const head of table.querySelectorAll("th[data-sort]")) {
      const press = document.createElement("button");
      press.type = "button";
      press.className = "book-sort";
      press.append(...head.childNodes);
      head.append(press);
      press.addEventListener("click", () => sort(table, head));
    }
    for (const code of table.querySelectorAll(".book-command")) {
      const command = code.textContent;
      code.replaceWith(button("Copy command", "The command that measures this row again", () => command));
    }
  }

  function sort(table, head) {
    const up = head.getAttribute("aria-sort") !== "ascending";
    const column = [...head.parentElement.children].indexOf(head);
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => {
      const cell = row.children[column];
      const text = cell.textContent.trim();
      return cell.dataset.value === undefined ? text : Number(cell.dataset.value);
    };
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [key(row), row]);
    const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : `${a}`.localeCompare(`${b}`));
    const filled = rows.filter(([value]) => value !== "");  // an empty cell is last, either way
    filled.sort(([a], [b]) => (up ? order(a, b) : order(b, a)));
    body.append(...[...filled, ...rows.filter(([value]) => value === "")].map(([, row]) => row));
    status.textContent = `Sorted by ${head.textContent.trim().toLowerCase()}, ${up ? "smallest" : "largest"} first`;
  }

  // What is wider than its column scrolls in itself; the keyboard must reach it then, and only then.
  const names = { code: "Code", output: "Output", figure: "Figure", table: "Table" };
  const seen = new ResizeObserver((entries) => entries.forEach((entry) => reach(entry.target)));
  function reach(element) {
    const scrolls = element.scrollWidth > element.clientWidth + 1;
    if (scrolls === element.hasAttribute("tabindex")) return;
    if (scrolls) {
      element.tabIndex = 0;
      element.setAttribute("role", "group");
      const name = names[element.dataset.scroll] ?? "Formula";
      element.setAttribute("aria-label", `${name}, scrolls sideways`);
    } else {
      for (const name of ["tabindex", "role", "aria-label"]) element.removeAttribute(name);
    }
  }

  function start() {
    document.body.append(status);
    buttons();
    document.querySelectorAll(".book-sorted").forEach(sortable);
    const scrolling = "[data-scroll], .book-maths, .doc pre > code";
    for (const element of document.querySelectorAll(scrolling)) {
      element.removeAttribute("tabindex");
      seen.observe(element);
    }
    // The theme looks at what is searched for when a key goes up: not after a paste, nor when an
    // input method, as for Chinese, puts a word in.
    const search = document.querySelector("[data-md-component=search-query]");
    search?.addEventListener("input", () => search.dispatchEvent(new KeyboardEvent("keyup")));
    let folded = [];
    addEventListener("beforeprint", () => {
      const folds = ".md-content details:not([open], .mkdocstrings-source)";
      folded = [...document.querySelectorAll(folds)];
      folded.forEach((element) => (element.open = true));
    });
    addEventListener("afterprint", () => folded.forEach((element) => (element.open = false)));
  }

  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
  else start();
})();
