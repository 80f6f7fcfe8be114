// Texts in the language of the page; English is the key.

import texts from "/texts.js";

const rule = new Intl.PluralRules(document.documentElement.lang || "en");
const ORDER = ["zero", "one", "two", "few", "many", "other"]; // as the forms of a PO file follow one another
const categories = ORDER.filter((one) => rule.resolvedOptions().pluralCategories.includes(one));

const fill = (words, values) => words.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);

export const text = (words, values = {}) => fill(texts[words] ?? words, values);

// plural(3, "{num} cell", "{num} cells") is "3 cells".
export function plural(num, one, many) {
  const forms = texts[one] ?? [one, many];
  const place = texts[one] ? categories.indexOf(rule.select(num)) : Number(num !== 1);
  return fill(forms[Math.min(place, forms.length - 1)], { num });
}
