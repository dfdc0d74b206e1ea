/** Light or dark, as the page around says. */

const ATTRIBUTES = ["class", "theme", "data-theme", "data-jp-theme-light", "data-vscode-theme-kind"];

/** The system's preference counts only where nothing else is said. */
export function isDark(doc = document) {
  const body = doc.body;
  const lab = body.getAttribute("data-jp-theme-light");
  if (lab !== null) return lab === "false";
  const kind = body.getAttribute("data-vscode-theme-kind") ?? body.className;
  if (/vscode-/.test(kind)) return /dark|high-contrast(?!-light)/.test(kind);
  const said = doc.documentElement.getAttribute("theme") ?? doc.documentElement.getAttribute("data-theme");
  if (said) return said === "dark";
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/**
 * Follow the theme while the page lives.
 * @param {() => void} changed
 * @returns {() => void} stops that
 */
export function followTheme(changed) {
  const observer = new MutationObserver(changed);
  for (const root of [document.body, document.documentElement]) observer.observe(root, { attributes: true, attributeFilter: ATTRIBUTES });
  return () => observer.disconnect();
}
