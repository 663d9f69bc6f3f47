// Counts of pixels -> scores of one image, as metrics.image_scores defines them; sums of them -> scores of all images.

/** Of a mask beside its truth: pixels that are right, predicted, true, usable. */
export function counted(mask, truth, valid) {
  const counts = { right: 0, predicted: 0, true: 0, usable: 0 };
  for (let at = 0; at < mask.length; at += 1) {
    counts.predicted += mask[at];
    counts.true += truth[at];
    counts.right += mask[at] & truth[at];
    counts.usable += valid[at];
  }
  return counts;
}

const ratio = (over, under) => (under === 0 ? 1 : over / under);
const union = (of) => of.predicted + of.true - of.right;

/** Each figure of one image, or of all pixels of several together; both empty score 1. */
export const OF_COUNTS = {
  dice: (of) => ratio(2 * of.right, of.predicted + of.true),
  iou: (of) => ratio(of.right, union(of)),
  iou_map: (of) => (union(of) === 0 ? 1 : Math.min(10, Math.max(0, Math.ceil((20 * of.right) / union(of)) - 10)) / 10),
  accuracy: (of) => ratio(of.usable - union(of) + of.right, of.usable),
  precision: (of) => (of.predicted === 0 ? Number(of.true === 0) : of.right / of.predicted),
  recall: (of) => (of.true === 0 ? Number(of.predicted === 0) : of.right / of.true),
};

/** A score as a text, as it is written everywhere. */
export const scoreText = (value) => (Number.isNaN(value) || value === undefined ? "-" : value.toFixed(4));

/** Scores of all images, by the names that the tool has for them; objects are scored in runs that are decided by them. */
export const FIGURES = {
  mean_dice: "Dice, mean per image",
  mean_iou: "IoU, mean per image",
  mean_iou_map: "IoU over thresholds",
  f2_objects: "F2 of objects, IoU 0.50 to 0.95",
  global_dice: "Dice, all pixels",
  global_iou: "IoU, all pixels",
  global_accuracy: "Accuracy, all pixels",
  global_precision: "Precision, all pixels",
  global_recall: "Recall, all pixels",
};

/** A figure over all images of a part, each class at its own cell: sums that the viewer made with the tool's own
 * functions, looked up. NaN at an area they were not made for, and for objects where they are not scored. */
export function together(surfaces, figure, cells) {
  const { planes, areas, sums, images } = surfaces;
  const sum = (plane, number) => {
    const area = areas.indexOf(cells[number].smallest_area);
    return area < 0 ? NaN : sums[((number * planes.length + planes.indexOf(plane)) * 256 + cells[number].level) * areas.length + area];
  };
  const all = (of) => cells.reduce((total, _, number) => total + of(number), 0);
  if (figure === "f2_objects" && !planes.includes(figure)) return NaN;
  if (planes.includes(figure)) return all((number) => sum(figure, number)) / (images * cells.length);
  return OF_COUNTS[figure.replace("global_", "")]({
    right: all((number) => sum("right_pixels", number)),
    predicted: all((number) => sum("predicted_pixels", number)),
    true: all((number) => surfaces.true_pixels[number]),
    usable: all((number) => surfaces.usable_pixels[number]),
  });
}

/** The F2 of objects of a chip in a class, at a cell. */
export function ofObjects({ areas, emptied, scores }, number, cell, gateValue) {
  if (gateValue < cell.gate) return emptied[number];
  return scores[(256 * number + cell.level) * areas.length + areas.indexOf(cell.smallest_area)];
}
