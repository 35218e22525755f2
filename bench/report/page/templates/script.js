"use strict";
(() => {
  // Theme: auto, light, dark. A page opened from a file may have no storage.
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  const remember = (theme) => { try { localStorage.setItem("etad-bench-theme", theme); } catch (error) { /* not kept */ } };
  const remembered = () => { try { return localStorage.getItem("etad-bench-theme"); } catch (error) { return null; } };
  let theme = themes.includes(remembered()) ? remembered() : "auto";
  const apply = () => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    remember(theme);
    apply();
  });
  apply();

  // Sorting: numbers by their raw values, words by letters; what is not known stays last.
  const value = (row, column) => {
    const cell = row.cells[column];
    if ("v" in cell.dataset) {
      const number = Number(cell.dataset.v);
      return cell.dataset.v === "" ? null : Number.isNaN(number) ? cell.dataset.v : number;
    }
    return cell.textContent === "-" ? null : cell.textContent;
  };
  const compare = (one, other) =>
    typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other), "en", { numeric: true });
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const sorter = document.createElement("button");
      sorter.type = "button";
      sorter.textContent = head.textContent;
      head.replaceChildren(sorter);
      sorter.addEventListener("click", () => {
        const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
        const rows = [...table.tBodies[0].rows].map((row) => [value(row, column), row]);
        rows.sort(([one], [other]) => one === null || other === null ? (one === null) - (other === null) : sign * compare(one, other));
        table.tBodies[0].append(...rows.map(([, row]) => row));
      });
    });
  }
})();
