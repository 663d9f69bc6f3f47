"""Array shapes as types; every test run checks them, production does not pay for them.

Sizes are pixels, height first. Images are RGB (or as many bands as the file has). Run lengths are pairs of 0-based
start and length over pixels numbered down the columns, ascending and apart. What carries `input` is of the size the
network sees.
"""

import numpy as np
from jaxtyping import Bool, Int, UInt8

Image = UInt8[np.ndarray, "height width bands"]
Mask = Bool[np.ndarray, "classes height width"]
ClassMask = Bool[np.ndarray, "height width"]
Probabilities = UInt8[np.ndarray, "classes height width"]
ClassProbabilities = UInt8[np.ndarray, "height width"]
InputImage = UInt8[np.ndarray, "input_height input_width bands"]
InputClassMask = Bool[np.ndarray, "input_height input_width"]
InputMask = Bool[np.ndarray, "classes input_height input_width"]
InputProbabilities = UInt8[np.ndarray, "classes input_height input_width"]
Runs = Int[np.ndarray, "_runs 2"]  # not bound to one number: a list of them differs in length

HW = tuple[int, int]
