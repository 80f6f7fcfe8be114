"""The loops of denoising, compiled by numba: wavelet details for the noise, and non-local means of an RGB image.

Each image is processed by one thread, and many images by many processes, so there is one level of parallelism.
"""

import math

import numba
import numpy as np

# Daubechies' wavelet with two vanishing moments ("db2"): its high-pass filter.
HIGH_PASS = (-0.48296291314453416, 0.8365163037378079, -0.2241438680420134, -0.12940952255126037)
BINS_PER_GREY_LEVEL = 64.0  # of the histogram in which a median is searched
LAST_BIN = 4095.0  # holds all larger values: a median is beyond 64 grey levels only where an image is all noise
# exp(x) by Schraudolph, Neural Computation 1999, for float32: x goes straight into the bits of the exponent; 60801, in
# units of 2**-20, minimises the mean error. It is off by up to 6 %, and scikit-image uses it for weights: with the
# exact exponential, pixels would differ from scikit-image's by half a grey level.
EXP_SCALE = 2**23 / math.log(2)
EXP_OF_ZERO = (127 << 23) - (60801 << 3)
WEIGHT_OF_SELF = np.array([EXP_OF_ZERO], dtype=np.int32).view(np.float32)[0]
LARGEST_DISTANCE = 5.0  # patches with a larger distance, in units of h**2, get no weight
SMALLEST_H2 = 1e-6  # squared grey levels; below it different patches get no weight anyway, and float32 overflows

ZERO, SELF_BITS = np.float32(0), np.int32(EXP_OF_ZERO)
FAST = {"contract", "nsz", "arcp"}  # fused multiply-adds and the like; nothing that assumes finite numbers


def compiled(function):
    """Compile a function at its first call, and cache the result on disk for later processes.

    numba caches it beside this file or, where that is not writable, in the user's cache folder; NUMBA_CACHE_DIR names
    another. Where there is none, each process compiles by itself, which takes some seconds.

    Parameters
    ----------
    function : callable

    Returns
    -------
    callable
    """
    try:
        return numba.njit(function, nogil=True, cache=True)
    except RuntimeError:
        return numba.njit(function, nogil=True)


@compiled
def copy_planes(image, rows, columns, start):
    """Copy the channels of an image into planes of chosen rows and columns.

    Parameters
    ----------
    image : ndarray of uint8, shape (height, width, 3)
    rows, columns : ndarray of int64
        Which rows and columns of the image, in this order.
    start : int
        The first column if the image extended beyond its border: columns that are in the image are consecutive.

    Returns
    -------
    ndarray of uint8, shape (3, rows, columns)
    """
    planes = np.empty((3, rows.size, columns.size), np.uint8)
    low, high = max(0, -start), min(columns.size, image.shape[1] - start)
    for y in range(rows.size):
        line = image[rows[y]]
        inner = line[low + start : high + start]
        for c in range(3):
            out = planes[c, y]
            for x in range(low):
                out[x] = line[columns[x], c]
            for x in range(high - low):
                out[low + x] = inner[x, c]
            for x in range(high, columns.size):
                out[x] = line[columns[x], c]
    return planes


@compiled
def diagonal_details(planes):
    """Compute the absolute finest diagonal wavelet coefficients.

    Identical to PyWavelets' `dwt2(plane, "db2")` to the last bit, because sums are computed in the same order. This
    matters: in flat images the last bits decide which coefficients are zero and do not count. The other three quarters
    of the transform are not needed here.

    Parameters
    ----------
    planes : ndarray of uint8, shape (channels, height + 6, width + 6)
        With mirrored borders, in which the outermost pixels are repeated.

    Returns
    -------
    ndarray of float64, shape (channels, rows, columns)
    """
    num_channels, height, width = planes.shape[0], planes.shape[1] - 6, planes.shape[2] - 6
    rows, columns = (height + 3) // 2, (width + 3) // 2
    details = np.empty((num_channels, rows, columns))
    line = np.empty(planes.shape[2])
    f0, f1, f2, f3 = HIGH_PASS
    for channel in range(num_channels):
        plane = planes[channel]
        for y in range(rows):
            i, j, k, m = _order_of_sum(y == rows - 1, height)
            a, b, c, d = plane[2 * y + 4 - i], plane[2 * y + 4 - j], plane[2 * y + 4 - k], plane[2 * y + 4 - m]
            fa, fb, fc, fd = HIGH_PASS[i], HIGH_PASS[j], HIGH_PASS[k], HIGH_PASS[m]
            for x in range(line.shape[0]):
                line[x] = fa * a[x] + fb * b[x] + fc * c[x] + fd * d[x]
            out = details[channel, y]
            for x in range(columns - 1):
                out[x] = abs(f0 * line[2 * x + 4] + f1 * line[2 * x + 3] + f2 * line[2 * x + 2] + f3 * line[2 * x + 1])
            total = 0.0
            for i in _order_of_sum(True, width):
                total += HIGH_PASS[i] * line[2 * columns + 2 - i]
            out[columns - 1] = abs(total)
    return details


@numba.njit
def _order_of_sum(is_last, size):
    """Return the order of PyWavelets' sums, which start outside the far border, nearest pixel first."""
    if not is_last:
        return 0, 1, 2, 3
    return (1, 0, 2, 3) if size % 2 == 0 else (2, 1, 0, 3)


@compiled
def values_near_median(values):
    """Return the non-zero values in the histogram bin of their median, or in the bins of the two middle values.

    Sorting these few hundred takes a tenth of the time of sorting all.

    Parameters
    ----------
    values : ndarray of float64, any shape
        Not negative.

    Returns
    -------
    near : ndarray of float64, shape (k,)
        Empty where all values are zero.
    low, high : int
        Indices in sorted `near` of the two values whose mean is the median.
    """
    flat = values.ravel()
    bins = np.empty(flat.size, np.uint16)
    for i in range(flat.size):
        bins[i] = np.int32(min(flat[i] * BINS_PER_GREY_LEVEL, LAST_BIN))
    # Four histograms in turn, as most values fall into few bins, and each increment would wait for the one before.
    counts = np.zeros((4, int(LAST_BIN) + 1), np.int32)
    for i in range(flat.size):
        counts[i % 4, bins[i]] += 1
    totals = counts[0] + counts[1] + counts[2] + counts[3]
    num_zeros = 0
    for i in range(flat.size):
        num_zeros += flat[i] == 0
    totals[0] -= num_zeros
    num_others = flat.size - num_zeros
    low, high = max(num_others - 1, 0) // 2, num_others // 2
    first, num_before = 0, 0
    while first < totals.size - 1 and num_before + totals[first] <= low:
        num_before += totals[first]
        first += 1
    last, num_near = first, totals[first]
    while last < totals.size - 1 and num_before + num_near <= high:
        last += 1
        num_near += totals[last]
    near = np.empty(num_near)
    k = 0
    for i in range(flat.size):
        if first <= bins[i] <= last and flat[i] != 0:
            near[k] = flat[i]
            k += 1
    return near, low - num_before, high - num_before


@compiled
def non_local_means(planes, half, reach, noise, per_h2, margin):
    """Average each pixel with those around it, weighted by the similarity of their patches.

    Only half of the shifts are computed, as similarity is symmetric. For each shift, the sums over the patches' rows
    move down with the current row and never leave the cache.

    Parameters
    ----------
    planes : ndarray of float32, shape (3, height + 2 margin, width + 2 margin)
        Whole grey levels, so that sums are exact.
    half : int
        Half of the patch size, rounded down, at least 1; patches reach from 1 - half to half.
    reach : int
        How far neighbours are searched, in px.
    noise : float
        Subtracted from the squared distance of patches.
    per_h2 : float
        Reciprocal of the squared distance that counts as 1.
    margin : int
        At least 2 reach + half.

    Returns
    -------
    ndarray of float32, shape (height, width, 3)
    """
    height, width = planes.shape[1] - 2 * margin, planes.shape[2] - 2 * margin
    total = np.empty((3, height, width), np.float32)
    for c in range(3):
        for y in range(height):
            total[c, y] = planes[c, y + margin, margin : margin + width] * WEIGHT_OF_SELF
    weight = np.full((height, width), WEIGHT_OF_SELF)
    noise, scale = np.float32(noise), np.float32(-EXP_SCALE * per_h2)
    furthest = np.float32(LARGEST_DISTANCE / per_h2)
    # Columns from -reach to width + reach: all pairs of which one pixel is in the image. Patches extend beyond them.
    num_columns = width + 2 * reach
    num_sums = num_columns + 2 * half - 1
    squares = np.empty((2 * reach + 1, 2 * half, num_sums), np.float32)
    sums = np.empty((2 * reach + 1, num_sums), np.float32)
    distance = np.empty(num_columns, np.float32)
    bits = np.empty((2 * reach + 1, num_columns), np.int32)
    weights = bits.view(np.float32)
    for down in range(reach + 1):
        # Within a row, shifts to the left are shifts to the right seen from the other pixel.
        first = -reach if down else 1
        num_shifts = reach - first + 1
        squares[:] = ZERO
        sums[:] = ZERO
        for y in range(-down - half + 1, height + half):
            start = margin - reach - half + 1
            for k in range(num_shifts):
                _move_down(planes, y + margin, down, start, first + k, squares[k, y % (2 * half)], sums[k])
            centre = y - half
            if centre < -down:
                continue
            for k in range(num_shifts):
                _sum_along(sums[k], distance, half)
                _weigh(distance, bits[k], noise, scale, furthest)
            if centre >= 0:
                _average(total, weight, centre, planes, centre + down, weights, num_shifts, first, 1, reach, margin)
            if centre + down < height:
                _average(total, weight, centre + down, planes, centre, weights, num_shifts, first, -1, reach, margin)
    return _divide(total, weight)


@numba.njit(fastmath=FAST)
def _move_down(planes, row, down, start, right, oldest, sums):
    """Add a row's squared differences to the sums over the patches' rows, and subtract those of the row they leave."""
    r, other_r = _two_lines(planes[0], row, down, start, right, sums.shape[0])
    g, other_g = _two_lines(planes[1], row, down, start, right, sums.shape[0])
    b, other_b = _two_lines(planes[2], row, down, start, right, sums.shape[0])
    for x in range(sums.shape[0]):
        red, green, blue = r[x] - other_r[x], g[x] - other_g[x], b[x] - other_b[x]
        square = red * red + green * green + blue * blue
        sums[x] += square - oldest[x]
        oldest[x] = square


@numba.njit
def _two_lines(plane, row, down, start, right, n):
    return plane[row, start : start + n], plane[row + down, start + right : start + right + n]


@numba.njit(fastmath=FAST)
def _sum_along(sums, distance, half):
    """Sum over the patches' columns, two at a time."""
    n = distance.shape[0]
    left, right = sums[:n], sums[1 : n + 1]
    for x in range(n):
        distance[x] = left[x] + right[x]
    for k in range(2, 2 * half, 2):
        left, right = sums[k : n + k], sums[k + 1 : n + k + 1]
        for x in range(n):
            distance[x] += left[x] + right[x]


@numba.njit(fastmath=FAST)
def _weigh(distance, bits, noise, scale, furthest):
    """Turn squared distances into the bits of their weights."""
    for x in range(bits.shape[0]):
        excess = max(distance[x] - noise, ZERO)
        value = np.int32(excess * scale) + SELF_BITS
        bits[x] = value if excess <= furthest else np.int32(0)


@numba.njit(fastmath=FAST)
def _average(total, weight, row, planes, source, weights, num_shifts, first, sign, reach, margin):
    """Add the weighted pixels of another row to a row of the averages, shift by shift.

    With sign 1 a pixel receives its neighbours; with -1 the neighbours receive the pixel.
    """
    width = weight.shape[1]
    k = 0
    while k < num_shifts:
        # Four shifts at a time, so that the averages, which all shifts change, are read and written a quarter as often.
        w0 = _shifted_weights(weights, k, first, sign, reach, width)
        shift = margin + sign * (first + k)
        if k + 4 <= num_shifts:
            w1 = _shifted_weights(weights, k + 1, first, sign, reach, width)
            w2 = _shifted_weights(weights, k + 2, first, sign, reach, width)
            w3 = _shifted_weights(weights, k + 3, first, sign, reach, width)
            for c in range(3):
                line = planes[c, source + margin]
                s1, s2, s3 = shift + sign, shift + 2 * sign, shift + 3 * sign
                p0, p1 = line[shift : shift + width], line[s1 : s1 + width]
                p2, p3 = line[s2 : s2 + width], line[s3 : s3 + width]
                _add_four(total[c, row], w0, w1, w2, w3, p0, p1, p2, p3)
            _add_four_weights(weight[row], w0, w1, w2, w3)
            k += 4
        else:
            for c in range(3):
                _add_one(total[c, row], w0, planes[c, source + margin, shift : shift + width])
            _add_one_weight(weight[row], w0)
            k += 1


@numba.njit
def _shifted_weights(weights, k, first, sign, reach, width):
    start = reach if sign > 0 else reach - first - k
    return weights[k, start : start + width]


# Separate loops that each write one array, so that the compiler can see that it is not also read under another name.


@numba.njit(fastmath=FAST)
def _add_four(total, w0, w1, w2, w3, p0, p1, p2, p3):
    for x in range(total.shape[0]):
        total[x] += (w0[x] * p0[x] + w1[x] * p1[x]) + (w2[x] * p2[x] + w3[x] * p3[x])


@numba.njit(fastmath=FAST)
def _add_four_weights(weight, w0, w1, w2, w3):
    for x in range(weight.shape[0]):
        weight[x] += (w0[x] + w1[x]) + (w2[x] + w3[x])


@numba.njit(fastmath=FAST)
def _add_one(total, w, p):
    for x in range(total.shape[0]):
        total[x] += w[x] * p[x]


@numba.njit(fastmath=FAST)
def _add_one_weight(weight, w):
    for x in range(weight.shape[0]):
        weight[x] += w[x]


@numba.njit(fastmath=FAST)
def _divide(total, weight):
    _, height, width = total.shape
    image = np.empty((height, width, 3), np.float32)
    for y in range(height):
        for x in range(width):
            for c in range(3):
                image[y, x, c] = total[c, y, x] / weight[y, x]
    return image
