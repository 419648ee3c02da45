"""Triton kernels of the recurrent step: device code alone; step.py packs and launches.

Tensors are NHWC, so pixel (y, x) of a frame with C channels begins at (y * width + x) * C. In the step's kernels the
batch is one, and a program makes `ROWS * COLUMNS` pixels, numbered by `_pixels`. Offsets are 32-bit: the step refuses
larger frames, and RAFT's working size is bounded. Sizes are not specialised on: Triton would compile a kernel again for
a size that is a multiple of 16, and nothing is gained, because channels, which are constants, make accesses aligned.
"""

import triton
import triton.language as tl


@triton.jit
def probe(out):
    """Tells whether kernels can be compiled and run at all: writes 1."""
    tl.store(out, 1)


@triton.jit
def _pixels(width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """(y, x) of the program's pixels, tile by tile along the rows of tiles."""
    tiles = tl.cdiv(width, COLUMNS)
    tile = tl.program_id(0)
    m = tl.arange(0, ROWS * COLUMNS)
    return (tile // tiles) * ROWS + m // COLUMNS, (tile % tiles) * COLUMNS + m % COLUMNS


@triton.jit
def _clamp(value, last):
    return tl.minimum(tl.maximum(value, 0), last)


@triton.jit
def _correlate(x, weight, y, px, height, width, CIN: tl.constexpr, COUT: tl.constexpr, K: tl.constexpr):
    """3x3 convolution, zero padding: implicit GEMM over 9 taps of CIN channels, K at a time; (pixels, COUT) fp32."""
    k = tl.arange(0, K)
    n = tl.arange(0, COUT)
    total = tl.zeros((y.shape[0], COUT), tl.float32)
    for step in range(9 * (CIN // K)):
        tap = step // (CIN // K)
        first = (step % (CIN // K)) * K
        ty = y + tap // 3 - 1
        tx = px + tap % 3 - 1
        inside = (ty >= 0) & (ty < height) & (tx >= 0) & (tx < width)
        a = tl.load(x + (ty * width + tx)[:, None] * CIN + first + k[None, :], mask=inside[:, None], other=0.0)
        b = tl.load(weight + (tap * CIN + first + k)[:, None] * COUT + n[None, :])
        total = tl.dot(a, b, total)
    return total


@triton.jit(do_not_specialize=["height", "width"])
def convolve(
    x,
    weight,
    bias,
    residual,
    out,
    height,
    width,
    CIN: tl.constexpr,
    COUT: tl.constexpr,
    K: tl.constexpr,
    RELU: tl.constexpr,
    ADD: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """out = conv(x) + bias, then ReLU or `+ residual`.

    x (h, w, CIN), weight (9 * CIN, COUT), bias (COUT), residual and out (h, w, COUT), all fp16. `out` may be
    `residual`: a program reads only its own pixels of it.
    """
    y, px = _pixels(width, ROWS, COLUMNS)
    total = _correlate(x, weight, y, px, height, width, CIN, COUT, K)
    n = tl.arange(0, COUT)
    total += tl.load(bias + n)[None, :].to(tl.float32)
    place = (y * width + px)[:, None] * COUT + n[None, :]
    inside = ((y < height) & (px < width))[:, None]
    if ADD:
        total += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    if RELU:
        total = tl.maximum(total, 0.0)
    tl.store(out + place, total.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["height", "width"])
def finish(
    x,
    weight,
    bias,
    lr,
    base,
    hr,
    frame,
    height,
    width,
    CIN: tl.constexpr,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The tail: hr = bicubic(nominal) + depth_to_space(conv(x) + bias), in fp32 from the accumulators on.

    x (h, w, CIN) fp16, weight (9 * CIN, 64) and bias (64) fp16 of which 48 are real, lr (3, h, w) fp32, nominal the
    same within [0, 1], base (16, 25) fp32, the 5x5 kernel of each of the 16 phases, hr (3, 4h, 4w), the next step's
    state, and frame, like it: hr + bicubic(lr - nominal), what is shown.
    """
    y, px = _pixels(width, ROWS, COLUMNS)
    total = _correlate(x, weight, y, px, height, width, CIN, 64, K)
    n = tl.arange(0, 64)
    total += tl.load(bias + n)[None, :].to(tl.float32)

    channel = tl.arange(0, 4)  # the fourth is padding: sides of a block are powers of two
    phase = tl.arange(0, 16)
    bicubic = tl.zeros((ROWS * COLUMNS, 4, 16), tl.float32)
    excess = tl.zeros((ROWS * COLUMNS, 4, 16), tl.float32)
    for tap in range(25):
        ty = _clamp(y + tap // 5 - 2, height - 1)
        tx = _clamp(px + tap % 5 - 2, width - 1)
        at = channel[None, :] * height * width + (ty * width + tx)[:, None]
        sample = tl.load(lr + at, mask=(channel < 3)[None, :], other=0.0)
        nominal = _nominal(sample)
        share = tl.load(base + phase * 25 + tap)[None, None, :]
        bicubic += nominal[:, :, None] * share
        excess += (sample - nominal)[:, :, None] * share
    total += tl.reshape(bicubic, (ROWS * COLUMNS, 64))

    row = 4 * y[:, None] + (n % 16 // 4)[None, :]
    column = 4 * px[:, None] + (n % 4)[None, :]
    place = ((n // 16)[None, :] * 4 * height + row) * 4 * width + column
    inside = ((y < height) & (px < width))[:, None] & (n < 48)[None, :]
    tl.store(hr + place, total, mask=inside)
    tl.store(frame + place, total + tl.reshape(excess, (ROWS * COLUMNS, 64)), mask=inside)


@triton.jit
def _nominal(sample):
    return tl.minimum(tl.maximum(sample, 0.0), 1.0)


@triton.jit
def _corners(position, last):
    """Bilinear sampling along one axis, border replicated: the two samples' indices and the second one's weight."""
    inner = tl.minimum(tl.maximum(position, 0.0), last.to(tl.float32))
    first = inner.to(tl.int32)  # floor: it is not negative
    return first, tl.minimum(first + 1, last), inner - first.to(tl.float32)


@triton.jit
def _blend(a, b, c, d, fx, fy):
    return (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy


@triton.jit(do_not_specialize=["height", "width"])
def align(
    lr,
    hr,
    hidden,
    flow,
    out,
    height,
    width,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The head's input, (h, w, C + 64) fp16: warped hidden features, warped previous HR frame, LR frame, 13 zeros.

    lr (3, h, w) fp32, clamped to [0, 1] here, hr (3, 4h, 4w), hidden (h, w, C) fp16, flow (2, h, w) fp32 in LR pixels.
    The HR frame is fetched at the flow enlarged x4 (bilinear around pixel centres) and lands as space-to-depth would
    put it: channel C + 16c + 4dy + dx is HR pixel (4y + dy, 4x + dx). Coordinates are fp32, borders are replicated.
    """
    y, px = _pixels(width, ROWS, COLUMNS)
    area = height * width
    inside = (y < height) & (px < width)
    place = (y * width + px)[:, None] * (C + 64)

    # The LR frame, and zeros to a multiple of 16 channels.
    j = tl.arange(0, 16)
    frame = tl.load(
        lr + j[None, :] * area + (y * width + px)[:, None], mask=inside[:, None] & (j < 3)[None, :], other=0.0
    )
    tl.store(out + place + (C + 48) + j[None, :], _nominal(frame).to(out.dtype.element_ty), mask=inside[:, None])

    # Hidden features, at LR positions.
    flow_x = tl.load(flow + y * width + px, mask=inside, other=0.0)
    flow_y = tl.load(flow + area + y * width + px, mask=inside, other=0.0)
    x0, x1, fx = _corners(px.to(tl.float32) + flow_x, width - 1)
    y0, y1, fy = _corners(y.to(tl.float32) + flow_y, height - 1)
    n = tl.arange(0, C)
    warped = _blend(
        tl.load(hidden + (y0 * width + x0)[:, None] * C + n[None, :]).to(tl.float32),
        tl.load(hidden + (y0 * width + x1)[:, None] * C + n[None, :]).to(tl.float32),
        tl.load(hidden + (y1 * width + x0)[:, None] * C + n[None, :]).to(tl.float32),
        tl.load(hidden + (y1 * width + x1)[:, None] * C + n[None, :]).to(tl.float32),
        fx[:, None],
        fy[:, None],
    )
    tl.store(out + place + n[None, :], warped.to(out.dtype.element_ty), mask=inside[:, None])

    # The 16 HR pixels of every LR pixel: first the flow there, between its LR neighbours.
    dy = (j // 4)[None, :]
    dx = (j % 4)[None, :]
    left = px[:, None] - (dx < 2).to(tl.int32)
    top = y[:, None] - (dy < 2).to(tl.int32)
    gx = (dx.to(tl.float32) - 1.5) / 4 + (dx < 2).to(tl.float32)
    gy = (dy.to(tl.float32) - 1.5) / 4 + (dy < 2).to(tl.float32)
    left, right = _clamp(left, width - 1), _clamp(left + 1, width - 1)
    top, bottom = _clamp(top, height - 1) * width, _clamp(top + 1, height - 1) * width
    big_x = 4 * _blend(
        tl.load(flow + top + left),
        tl.load(flow + top + right),
        tl.load(flow + bottom + left),
        tl.load(flow + bottom + right),
        gx,
        gy,
    )
    big_y = 4 * _blend(
        tl.load(flow + area + top + left),
        tl.load(flow + area + top + right),
        tl.load(flow + area + bottom + left),
        tl.load(flow + area + bottom + right),
        gx,
        gy,
    )
    x0, x1, fx = _corners((4 * px[:, None] + dx).to(tl.float32) + big_x, 4 * width - 1)
    y0, y1, fy = _corners((4 * y[:, None] + dy).to(tl.float32) + big_y, 4 * height - 1)
    for c in tl.static_range(3):
        plane = hr + c * 16 * area
        value = _blend(
            tl.load(plane + y0 * 4 * width + x0).to(tl.float32),
            tl.load(plane + y0 * 4 * width + x1).to(tl.float32),
            tl.load(plane + y1 * 4 * width + x0).to(tl.float32),
            tl.load(plane + y1 * 4 * width + x1).to(tl.float32),
            fx,
            fy,
        )
        tl.store(out + place + (C + 16 * c) + j[None, :], value.to(out.dtype.element_ty), mask=inside[:, None])
