/* A cell of the confusion matrix leads to the images behind it. */
"use strict";

const confused = JSON.parse(document.getElementById("confusions-data").textContent);
const trueChoice = control("confusion-true"), predictedChoice = control("confusion-predicted");

function confusionRows() {
  return confused.cells[`${trueChoice.value},${predictedChoice.value}`] ?? [];
}

function confusedNames() {
  return confusionRows().map(([image]) => confused.images[image]);
}

function showConfusion() {
  const isChosen = trueChoice.value !== "" && predictedChoice.value !== "";
  confusion = isChosen ? [Number(trueChoice.value), Number(predictedChoice.value)] : null;
  const rows = isChosen ? confusionRows() : [];
  control("confusion-words").textContent = !isChosen ? ""
    : `${confused.classes[confusion[0]]} predicted as ${confused.classes[confusion[1]]}: `
      + (rows.length ? `${rows.length} images, most ${confused.unit}s first` : "no image, or fewer than in the largest confusions");
  control("confusion-images").replaceChildren(...rows.map(([image, pixels]) => {
    const item = document.createElement("li");
    item.textContent = `${confused.images[image]}: ${pixels.toLocaleString("en")} ${confused.unit}s`;
    return item;
  }));
  showImages();
}

for (const choice of [trueChoice, predictedChoice]) {
  choice.add(new Option("any", ""));
  confused.classes.forEach((name, id) => choice.add(new Option(name, id)));
  choice.addEventListener("change", showConfusion);
}
document.addEventListener("drawn", event => {
  if (event.target.id !== "confusion") return;
  event.target.on("plotly_click", ({points: [point]}) => {
    const [row, column] = point.pointIndex ?? point.pointNumber;
    trueChoice.value = row;
    predictedChoice.value = row === column ? "" : column;
    showConfusion();
    control("images").scrollIntoView();
  });
});
paintLegend();
showImages();
