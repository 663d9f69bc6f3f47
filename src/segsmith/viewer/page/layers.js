// A chip's picture, levels and masks -> layers that are painted over one another.

import { outline } from "./masks.js";

export const LAYERS = ["image", "truth", "prediction", "probability", "error"];
const HIT = [86, 180, 233], FALSE_ALARM = [213, 94, 0], MISSED = [240, 228, 66];

/** Colours of levels: cividis (Nunez, Anderton and Renslow 2018), which all kinds of colour vision see alike. */
const CIVIDIS = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120], [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56]];
export const LEVEL_COLOURS = Array.from({ length: 256 }, (_, level) => {
  const at = (level / 255) * (CIVIDIS.length - 1), low = Math.min(Math.floor(at), CIVIDIS.length - 2);
  return CIVIDIS[low].map((from, band) => Math.round(from + (at - low) * (CIVIDIS[low + 1][band] - from)));
});

/** A canvas of a colour [r, g, b, alpha] for each pixel. */
export function painted(width, height, colourOf) {
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let at = 0; at < width * height; at += 1) pixels.data.set(colourOf(at), 4 * at);
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** The layers of one class of a chip in one run; `paint` lays them over one another. */
export class Layers {
  constructor(image, levels, number) {
    this.image = image;
    this.width = levels.width;
    this.height = levels.height;
    this.raw = levels.raw[number];
    this.trueMask = levels.truth[number];
    this.truth = outline(this.trueMask, this.width);
  }

  /** Take another mask as the prediction. */
  predict(mask) {
    this.mask = mask;
    this.prediction = outline(mask, this.width);
    this.error = null;
  }

  /** Paint onto a canvas whose unit is a pixel of the chip, of which each is `scale` px wide; opacities 0..1 by LAYERS. */
  paint(context, scale, opacity) {
    context.imageSmoothingEnabled = scale < 1;
    context.imageSmoothingQuality = "high";
    this.#picture(context, this.image, opacity.image);
    if (opacity.probability) {
      this.probability ??= painted(this.width, this.height, (at) => [...LEVEL_COLOURS[this.raw[at]], 255]);
      this.#picture(context, this.probability, opacity.probability);
    }
    if (opacity.error) {
      this.error ??= painted(this.width, this.height, (at) => this.#errorColour(at));
      this.#picture(context, this.error, opacity.error);
    }
    this.#line(context, scale, this.truth, "rgb(240 228 66)", 3.5, opacity.truth);
    this.#line(context, scale, this.prediction, "rgb(86 180 233)", 1.75, opacity.prediction);
  }

  #errorColour(at) {
    const found = this.mask[at], true_ = this.trueMask[at];
    if (!found && !true_) return [0, 0, 0, 0];
    return [...(found && true_ ? HIT : found ? FALSE_ALARM : MISSED), 191];
  }

  #picture(context, picture, opacity) {
    if (!opacity) return;
    context.globalAlpha = opacity;
    context.drawImage(picture, 0, 0);
    context.globalAlpha = 1;
  }

  #line(context, scale, path, colour, width, opacity) {
    if (!opacity) return;
    context.globalAlpha = opacity;
    context.lineCap = "square";
    for (const [stroke, px] of [["rgb(0 0 0 / 55%)", width + 1.5], [colour, width]]) {
      context.strokeStyle = stroke;
      context.lineWidth = px / scale;
      context.stroke(path);
    }
    context.globalAlpha = 1;
  }
}
