// What the theme and the bibliography leave unsaid, or say twice, to a screen reader.
function nameOnce() {
  for (const icon of document.querySelectorAll(".theme-switch")) {
    icon.querySelector("title")?.remove();
    icon.removeAttribute("title");
    icon.removeAttribute("aria-labelledby");
    icon.setAttribute("aria-hidden", "true"); // the button around it has a name
  }
}
document.addEventListener("DOMContentLoaded", () => {
  for (const named of document.querySelectorAll(".search-button-field, summary[aria-label]")) {
    named.removeAttribute("aria-label"); // their own words name them
  }
  for (const entry of document.querySelectorAll(".citation-list > .citation")) {
    entry.setAttribute("role", "listitem");
  }
  nameOnce();
  for (const button of document.querySelectorAll(".theme-switch-button")) {
    new MutationObserver(nameOnce).observe(button, { childList: true, subtree: true }); // icons become pictures
  }
});
