"""Triton kernels of RAFT: device code alone; flow.py packs and flow_launches.py launches.

Tensors are NHWC, so pixel p of a tensor with C channels begins at p * C, through all images of the batch. Offsets are
32-bit: RAFT's working size is bounded. Sizes are not specialised on, as in step_kernels.py; channels are constants.
WIDTH is always the channels rounded up to a power of two.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["height", "width", "rows", "columns"])
def pack(frames, out, height, width, rows, columns, PIXELS: tl.constexpr):
    """RAFT's input: frames (B, 3, height, width) fp32 -> out (B, rows, columns, 8) fp16 = 2 * frames - 1, 5 zeros.

    Beyond the frame's right and lower border its last pixels are repeated.
    """
    image = tl.program_id(1)
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    c = tl.arange(0, 8)
    y = tl.minimum(p // columns, height - 1)
    x = tl.minimum(p % columns, width - 1)
    at = frames + ((image * 3 + c[None, :]) * height + y[:, None]) * width + x[:, None]
    value = tl.load(at, mask=(c < 3)[None, :], other=0.5)
    place = out + (image * rows * columns + p)[:, None] * 8 + c[None, :]
    tl.store(place, (2 * value - 1).to(out.dtype.element_ty), mask=(p < rows * columns)[:, None])


@triton.jit
def _scaled(x, scale, place, inside, image, n, C: tl.constexpr, SCALED: tl.constexpr):
    """Channels n of x, fp32; if SCALED x * factor + summand, which are scale (B, 2, C) fp32."""
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    if SCALED:
        at = scale + image * 2 * C + n
        factor = tl.load(at, mask=n < C, other=0.0)
        summand = tl.load(at + C, mask=n < C, other=0.0)
        value = value * factor[None, :] + summand[None, :]
    return value


@triton.jit(do_not_specialize=["height", "width", "rows", "columns"])
def convolve(
    x,
    scale,
    weight,
    bias,
    out,
    partial,
    height,
    width,
    rows,
    columns,
    CIN: tl.constexpr,
    K: tl.constexpr,
    COUT: tl.constexpr,
    WIDTH: tl.constexpr,
    SIDE: tl.constexpr,
    STEP: tl.constexpr,
    STRIDE: tl.constexpr,
    SCALED: tl.constexpr,
    MOMENTS: tl.constexpr,
    RELU: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """out = conv(x) + bias, then ReLU if RELU; with MOMENTS no bias, but to `partial` what `settle` takes.

    x (B, height, width, CIN) fp16, if SCALED relu of it normalised, as in `activate`; out (B, rows, columns, STRIDE)
    fp16, of whose channels COUT are written. There are SIDE x SIDE taps around every STEPth pixel. A row of taps lies
    side by side in memory, so one matrix product goes over K of its channels, of whichever taps: weight (SIDE,
    SIDE * CIN rounded up to a multiple of K, WIDTH) fp16.
    """
    image = tl.program_id(1)
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    y = p // columns * STEP - SIDE // 2
    px = p % columns * STEP - SIDE // 2
    inside = p < rows * columns
    k = tl.arange(0, K)
    n = tl.arange(0, WIDTH)
    chunks: tl.constexpr = (SIDE * CIN + K - 1) // K
    total = tl.zeros((PIXELS, WIDTH), tl.float32)
    for step in range(SIDE * chunks):
        ty = y + step // chunks
        c = step % chunks * K + k
        tx = px[:, None] + (c // CIN)[None, :]
        seen = (inside & (ty >= 0) & (ty < height))[:, None] & (tx >= 0) & (tx < width) & (c < SIDE * CIN)[None, :]
        place = ((image * height + ty) * width + px)[:, None] * CIN + c[None, :]
        value = _scaled(x, scale, place, seen, image, c % CIN, CIN, SCALED)
        if SCALED:
            value = tl.where(seen, tl.maximum(value, 0.0), 0.0)
        taps = tl.load(weight + (step * K + k)[:, None] * WIDTH + n[None, :])
        total = tl.dot(value.to(taps.dtype), taps, total)
    if MOMENTS:
        at = partial + (image * tl.num_programs(0) + tl.program_id(0)) * 2 * COUT + n
        tl.store(at, tl.sum(total, 0), mask=n < COUT)
        tl.store(at + COUT, tl.sum(total * total, 0), mask=n < COUT)
    else:
        total += tl.load(bias + n, mask=n < COUT, other=0.0)[None, :]
    if RELU:
        total = tl.maximum(total, 0.0)
    place = (image * rows * columns + p)[:, None] * STRIDE + n[None, :]
    tl.store(out + place, total.to(out.dtype.element_ty), mask=inside[:, None] & (n < COUT)[None, :])


@triton.jit(do_not_specialize=["area", "parts"])
def settle(partial, scale, area, parts, C: tl.constexpr, WIDTH: tl.constexpr, PARTS: tl.constexpr):
    """An instance norm: partial (B, parts, 2, C) fp32, sums and sums of squares -> scale (B, 2, C), factor and summand.

    Added up in a fixed order: atomic additions would give other last bits from run to run.
    """
    image = tl.program_id(0)
    n = tl.arange(0, WIDTH)
    total = tl.zeros((PARTS, WIDTH), tl.float32)
    square = tl.zeros((PARTS, WIDTH), tl.float32)
    for first in range(0, parts, PARTS):
        part = first + tl.arange(0, PARTS)
        at = partial + ((image * parts + part) * 2)[:, None] * C + n[None, :]
        inside = (part < parts)[:, None] & (n < C)[None, :]
        total += tl.load(at, mask=inside, other=0.0)
        square += tl.load(at + C, mask=inside, other=0.0)
    mean = tl.sum(total, 0) / area
    factor = 1 / tl.sqrt(tl.maximum(tl.sum(square, 0) / area - mean * mean, 0.0) + 1e-5)
    tl.store(scale + image * 2 * C + n, factor, mask=n < C)
    tl.store(scale + image * 2 * C + C + n, -mean * factor, mask=n < C)


@triton.jit(do_not_specialize=["area"])
def activate(
    x,
    scale,
    shortcut,
    shortcut_scale,
    out,
    area,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    SCALED: tl.constexpr,
    ADD: tl.constexpr,
    ADD_SCALED: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """out = relu(x), and then with ADD relu(shortcut + that): x, shortcut, out (B, area, C) fp16.

    With SCALED x is normalised first, by scale (B, 2, C) fp32, its factor and its summand; so is the shortcut with
    ADD_SCALED.
    """
    n = tl.arange(0, WIDTH)
    image = tl.program_id(1)
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = (p < area)[:, None] & (n < C)[None, :]
    place = (image * area + p)[:, None] * C + n[None, :]
    value = tl.maximum(_scaled(x, scale, place, inside, image, n, C, SCALED), 0.0)
    if ADD:
        other = _scaled(shortcut, shortcut_scale, place, inside, image, n, C, ADD_SCALED)
        value = tl.maximum(value + other, 0.0)
    tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["rows", "columns", "positions"])
def correlate(
    current,
    pyramid,
    estimate,
    products,
    rows,
    columns,
    positions,
    scale: tl.constexpr,
    C: tl.constexpr,
    RADIUS: tl.constexpr,
    LEVELS: tl.constexpr,
    SIDE: tl.constexpr,
):
    """Correlation (RAFT, section 3.2) of SIDE x SIDE pixels with the previous frame, where they look on one level.

    current (B, rows, columns, C) fp16; pyramid (B, positions, C) fp16, level behind level; estimate (B, rows, columns,
    8) fp32, the flow's x and y in pixels of the finest level. products (B, rows, columns, LEVELS, 64) fp16 receives
    the 8x8 products, times `scale`, that the window's samples lie between, column by column; they are zero outside.

    Neighbours look at nearly the same places: the box around all windows is multiplied with all pixels, 8x8 places at
    a time, and every pixel keeps what belongs to its window. RADIUS is 3: 7 samples a side lie between 8 products.
    """
    level = tl.program_id(1)
    image = tl.program_id(2)
    first = 0
    height = rows
    width = columns
    shrink = 1.0
    for _ in range(level):
        first += height * width
        height = tl.maximum(height // 2, 1)
        width = tl.maximum(width // 2, 1)
        shrink *= 0.5
    tiles = tl.cdiv(columns, SIDE)
    m = tl.arange(0, SIDE * SIDE)
    y = (tl.program_id(0) // tiles) * SIDE + m // SIDE
    x = (tl.program_id(0) % tiles) * SIDE + m % SIDE
    inside = (y < rows) & (x < columns)
    pixel = (image * rows + tl.minimum(y, rows - 1)) * columns + tl.minimum(x, columns - 1)
    # Windows far outside see only zeros; the bounds keep the box small and integers within 32 bits.
    at_x = (tl.minimum(x, columns - 1) + tl.load(estimate + pixel * 8)) * shrink
    at_y = (tl.minimum(y, rows - 1) + tl.load(estimate + pixel * 8 + 1)) * shrink
    left = tl.floor(tl.minimum(tl.maximum(at_x, -8.0), width + 8.0)).to(tl.int32) - RADIUS
    top = tl.floor(tl.minimum(tl.maximum(at_y, -8.0), height + 8.0)).to(tl.int32) - RADIUS
    k = tl.arange(0, C)
    query = tl.load(current + pixel[:, None] * C + k[None, :])
    box_x = tl.min(left, 0)
    box_y = tl.min(top, 0)
    down = (tl.max(top, 0) - box_y + 15) // 8
    blocks = (tl.max(left, 0) - box_x + 15) // 8 * down
    slot = (pixel * LEVELS + level) * 64 - left * 8 - top
    left = tl.where(inside, left, 1 << 20)  # takes nothing
    n = tl.arange(0, 64)
    for block in range(blocks):
        tx = box_x + block // down * 8 + n // 8
        ty = box_y + block % down * 8 + n % 8
        # On a level that has shrunk to one column or row, raft.py finds that one everywhere along the axis.
        column = tl.where(width > 1, tx, 0)
        row = tl.where(height > 1, ty, 0)
        seen = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place = (image * positions + first + row * width + column)[None, :] * C + k[:, None]
        found = tl.dot(query, tl.load(pyramid + place, mask=seen[None, :], other=0.0)) * scale
        i = tx[None, :] - left[:, None]
        j = ty[None, :] - top[:, None]
        wanted = (i >= 0) & (i < 8) & (j >= 0) & (j < 8)
        place = products + slot[:, None] + (tx * 8 + ty)[None, :]
        tl.store(place, found.to(products.dtype.element_ty), mask=wanted)


@triton.jit(do_not_specialize=["pixels", "rows", "columns"])
def look_up(
    products,
    estimate,
    weight,
    bias,
    out,
    pixels,
    rows,
    columns,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    STRIDE: tl.constexpr,
    LEVELS: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """The look-up, and the motion encoder's first layer on it: out = relu(samples @ weight + bias).

    products and estimate as in `correlate`; bias (C) fp32; out has STRIDE channels, of which C are written, fp16. A
    sample lies between two columns and two rows of products. Columns are blended here, rows by the matrix product:
    weight (LEVELS, 2, 64, WIDTH) fp16 is a sample's weight at its upper and at its lower product.
    """
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = p < pixels
    flow_x = tl.load(estimate + p * 8, mask=inside, other=0.0)
    flow_y = tl.load(estimate + p * 8 + 1, mask=inside, other=0.0)
    n = tl.arange(0, 64)
    m = tl.arange(0, WIDTH)
    total = tl.zeros((PIXELS, WIDTH), tl.float32)
    shrink = 1.0
    for level in range(LEVELS):
        x = (p % columns + flow_x) * shrink
        y = (p // columns % rows + flow_y) * shrink
        fx = (x - tl.floor(x))[:, None]
        fy = (y - tl.floor(y))[:, None]
        at = products + (p * LEVELS + level)[:, None] * 64 + n[None, :]
        near = tl.load(at, mask=inside[:, None], other=0.0).to(tl.float32)
        far = tl.load(at + 8, mask=inside[:, None] & (n < 56)[None, :], other=0.0).to(tl.float32)
        column = near * (1 - fx) + far * fx
        upper = weight + (level * 128 + n[:, None]) * WIDTH + m[None, :]
        total = tl.dot((column * (1 - fy)).to(weight.dtype.element_ty), tl.load(upper), total)
        total = tl.dot((column * fy).to(weight.dtype.element_ty), tl.load(upper + 64 * WIDTH), total)
        shrink *= 0.5
    total += tl.load(bias + m, mask=m < C, other=0.0)[None, :]
    place = out + p[:, None] * STRIDE + m[None, :]
    tl.store(place, tl.maximum(total, 0.0).to(out.dtype.element_ty), mask=inside[:, None] & (m < C)[None, :])


@triton.jit(do_not_specialize=["pixels"])
def reset(
    gates,
    bias,
    hidden,
    update,
    joined,
    pixels,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    STRIDE: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """The GRU's gates: update = sigmoid(z), and the first C channels of joined = sigmoid(r) * hidden.

    gates (pixels, 2C) fp16, z and r without their bias (2C) fp32; hidden and update (pixels, C), joined (pixels,
    STRIDE), fp16.
    """
    n = tl.arange(0, WIDTH)
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = (p < pixels)[:, None] & (n < C)[None, :]
    place = p[:, None] * C + n[None, :]
    at = gates + p[:, None] * (2 * C) + n[None, :]
    z = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    r = tl.load(at + C, mask=inside, other=0.0).to(tl.float32)
    z += tl.load(bias + n, mask=n < C, other=0.0)[None, :]
    r += tl.load(bias + C + n, mask=n < C, other=0.0)[None, :]
    kept = tl.sigmoid(r) * tl.load(hidden + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(update + place, tl.sigmoid(z).to(update.dtype.element_ty), mask=inside)
    tl.store(joined + p[:, None] * STRIDE + n[None, :], kept.to(joined.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["pixels"])
def advance(
    candidate,
    bias,
    hidden,
    update,
    joined,
    pixels,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    STRIDE: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """The GRU's next state: hidden, in place, moves towards tanh(candidate + bias) by `update`.

    candidate, update, hidden (pixels, C) fp16, bias (C) fp32; the first C channels of joined (pixels, STRIDE) receive
    the new hidden state as well.
    """
    n = tl.arange(0, WIDTH)
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = (p < pixels)[:, None] & (n < C)[None, :]
    place = p[:, None] * C + n[None, :]
    value = tl.load(candidate + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + n, mask=n < C, other=0.0)[None, :]
    value = 2 * tl.sigmoid(2 * value) - 1  # tanh
    old = tl.load(hidden + place, mask=inside, other=0.0).to(tl.float32)
    new = old + tl.load(update + place, mask=inside, other=0.0).to(tl.float32) * (value - old)
    new = new.to(hidden.dtype.element_ty)
    tl.store(hidden + place, new, mask=inside)
    tl.store(joined + p[:, None] * STRIDE + n[None, :], new, mask=inside)


@triton.jit(do_not_specialize=["pixels"])
def move(delta, estimate, flow, joined, pixels, STRIDE: tl.constexpr, PIXELS: tl.constexpr):
    """estimate += delta, (pixels, 8) fp32; fp16 copies go to flow (pixels, 8) and joined (pixels, STRIDE)."""
    c = tl.arange(0, 8)
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = (p < pixels)[:, None]
    place = p[:, None] * 8 + c[None, :]
    value = tl.load(estimate + place, mask=inside, other=0.0)
    value += tl.load(delta + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(estimate + place, value, mask=inside)
    tl.store(flow + place, value.to(flow.dtype.element_ty), mask=inside)
    tl.store(joined + p[:, None] * STRIDE + c[None, :], value.to(joined.dtype.element_ty), mask=inside)
