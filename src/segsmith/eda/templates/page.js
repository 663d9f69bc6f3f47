// A click on a picture shows it as large as the window, with its caption; another click, or Escape, closes it.
const dialog = document.querySelector("dialog");
document.addEventListener("click", (event) => {
  const picture = event.target.closest(".pictures button");
  if (dialog.open) {
    dialog.close();
  } else if (picture) {
    const [image, caption] = picture.parentElement.querySelectorAll("img, figcaption");
    dialog.replaceChildren(image.cloneNode(), caption.cloneNode(true));
    dialog.showModal();
  }
});
