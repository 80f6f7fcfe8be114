// Where arrow keys lead in the gallery.

// The tile before or after another, across classes; null at the ends.
function beside(tile, step) {
  const sibling = step > 0 ? tile.nextElementSibling : tile.previousElementSibling;
  if (sibling) return sibling;
  const next = (section) => (step > 0 ? section.nextElementSibling : section.previousElementSibling);
  let section = next(tile.closest("section"));
  while (section?.hidden) section = next(section);
  const tiles = section?.querySelector(".grid").children;
  return tiles?.[step > 0 ? 0 : tiles.length - 1] ?? null;
}

// The tile that a key leads to from another; itself at the ends.
export function follow(key, tile) {
  if (key === "Home") return tile.parentElement.firstElementChild;
  if (key === "End") return tile.parentElement.lastElementChild;
  const step = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
  if (key === "ArrowLeft" || key === "ArrowRight") return beside(tile, step) ?? tile;
  // Up and down: the nearest tile of the next row, also across classes.
  const here = tile.getBoundingClientRect();
  let [best, least, row] = [tile, Infinity, null];
  for (let other = beside(tile, step); other; other = beside(other, step)) {
    const there = other.getBoundingClientRect();
    if (Math.abs(there.top - here.top) < 2) continue;
    row ??= there.top;
    if (Math.abs(there.top - row) > 2) break;
    const distance = Math.abs(there.left - here.left);
    if (distance < least) [best, least] = [other, distance];
  }
  return best;
}
