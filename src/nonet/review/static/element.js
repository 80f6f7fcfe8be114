// A new element with a class and text.
export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Give an element the colour of a class; grey where the class is not known.
export function coloured(made, colour) {
  made.style.setProperty("--label", colour ?? "#8a9099");
  return made;
}
