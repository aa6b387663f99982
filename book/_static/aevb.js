// What the theme and the bibliography leave unsaid, or say twice, to a screen reader.
function speakPlainly() {
  for (const named of document.querySelectorAll(".search-button-field, summary[aria-label]")) {
    named.removeAttribute("aria-label"); // their own words name them
  }
  for (const icon of document.querySelectorAll(".theme-switch")) {
    icon.querySelector("title")?.remove();
    icon.removeAttribute("title");
    icon.removeAttribute("aria-labelledby");
    icon.setAttribute("aria-hidden", "true"); // the button around it has a name
  }
  for (const entry of document.querySelectorAll(".citation-list > .citation")) {
    entry.setAttribute("role", "listitem");
  }
}
document.addEventListener("DOMContentLoaded", speakPlainly);
window.addEventListener("load", speakPlainly); // icons may have become pictures since
