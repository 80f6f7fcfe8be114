// What a pointer does in the gallery: focus, select, draw a frame, drag.

import { element } from "./element.js";

export function addPointer(gallery, page) {
  const tileOf = (event) => event.target.closest?.(".tile");
  const idOf = (tile) => Number(tile.dataset.id);
  let place = "";
  let frame = null;

  gallery.addEventListener("mousemove", (event) => {
    const there = `${event.screenX} ${event.screenY}`; // scrolling by keys moves tiles under a pointer that rests
    if (there === place) return;
    place = there;
    const tile = tileOf(event);
    if (tile && !frame && !page.hasSelection() && !page.isCurrent(idOf(tile))) page.focus(idOf(tile), { scroll: false });
  });

  gallery.addEventListener("click", (event) => {
    const tile = tileOf(event);
    if (!tile) return;
    const id = idOf(tile);
    if (event.shiftKey) { page.selectTo(id); return; }
    page.focus(id, { select: true, scroll: false });
    page.mark(id, !page.isSelected(id));
    page.startSelection(id);
  });

  gallery.addEventListener("dblclick", (event) => { if (tileOf(event)) page.togglePanel(); });

  gallery.addEventListener("dragstart", (event) => {
    const tile = tileOf(event);
    if (!tile) return;
    const id = idOf(tile);
    if (!page.isSelected(id)) {
      page.clearSelection();
      page.focus(id, { select: true, scroll: false });
      page.mark(id, true);
    }
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", tile.dataset.id);
  });

  // A frame drawn on the background selects what it touches.
  gallery.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch" || event.button !== 0 || tileOf(event) || event.target.closest("button")) return;
    frame = { x: event.clientX, y: event.clientY, box: element("div", "frame") };
    gallery.append(frame.box);
    page.clearSelection();
  });

  window.addEventListener("pointermove", (event) => {
    if (!frame) return;
    const [left, right] = [frame.x, event.clientX].sort((a, b) => a - b);
    const [top, bottom] = [frame.y, event.clientY].sort((a, b) => a - b);
    const size = { left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px` };
    Object.assign(frame.box.style, size);
    for (const tile of page.tilesInOrder()) {
      const box = tile.getBoundingClientRect();
      page.mark(idOf(tile), box.left < right && box.right > left && box.top < bottom && box.bottom > top);
    }
  });

  window.addEventListener("pointerup", () => {
    if (!frame) return;
    frame.box.remove();
    frame = null;
    if (page.hasSelection()) page.focus(page.chosen().at(-1), { select: true, scroll: false });
  });
}
