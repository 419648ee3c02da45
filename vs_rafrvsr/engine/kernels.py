"""Triton kernels: device code alone; convolution.py (the recurrent step) and flow.py (RAFT) pack and launch.

Tensors are NHWC, so pixel (y, x) of a frame with C channels begins at (y * width + x) * C. In the step's kernels the
batch is one, and a program makes `ROWS * COLUMNS` pixels, numbered by `_pixels`. Offsets are 32-bit: the step refuses
larger frames, and RAFT's working size is bounded. Sizes are not specialised on: Triton would compile a kernel again for
a size that is a multiple of 16, and nothing is gained, because channels, which are constants, make accesses aligned.
"""

import triton
import triton.language as tl


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
def march(
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
    """`convolve` for CIN = K, another way: a program goes down ROWS rows of a strip, and a row read serves 3 outputs.

    `convolve` fetches every pixel 9 times and all weights once a tile from the L2 cache, whose bandwidth, not the
    tensor cores, then bounds it. Here the weights stay in shared memory, and a pixel is fetched 3 times, once per
    column of taps; the price is two rows of wasted products a program.
    """
    strips = tl.cdiv(width, COLUMNS)
    top = (tl.program_id(0) // strips) * ROWS
    px = (tl.program_id(0) % strips) * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, K)
    n = tl.arange(0, COUT)
    tap = weight + k[:, None] * COUT + n[None, :]
    w00 = tl.load(tap + 0 * CIN * COUT)
    w01 = tl.load(tap + 1 * CIN * COUT)
    w02 = tl.load(tap + 2 * CIN * COUT)
    w10 = tl.load(tap + 3 * CIN * COUT)
    w11 = tl.load(tap + 4 * CIN * COUT)
    w12 = tl.load(tap + 5 * CIN * COUT)
    w20 = tl.load(tap + 6 * CIN * COUT)
    w21 = tl.load(tap + 7 * CIN * COUT)
    w22 = tl.load(tap + 8 * CIN * COUT)
    shift = tl.load(bias + n)[None, :].to(tl.float32)
    above = tl.zeros((COLUMNS, COUT), tl.float32)
    here = tl.zeros((COLUMNS, COUT), tl.float32)
    for y in range(top - 1, top + ROWS + 1):
        row = x + (y * width + px)[:, None] * CIN + k[None, :]
        within = (y >= 0) & (y < height) & (px < width)
        left = tl.load(row - CIN, mask=(within & (px >= 1))[:, None], other=0.0)
        middle = tl.load(row, mask=within[:, None], other=0.0)
        right = tl.load(row + CIN, mask=((y >= 0) & (y < height) & (px < width - 1))[:, None], other=0.0)
        place = ((y - 1) * width + px)[:, None] * COUT + n[None, :]
        inside = ((y > top) & (y - 1 < height) & (px < width))[:, None]
        if ADD:  # early, so that the products hide its latency
            added = tl.load(residual + place, mask=inside, other=0.0)
        # Row y is the lowest tap of the output row above it, the middle one of its own, the highest of the next.
        above = tl.dot(right, w22, tl.dot(middle, w21, tl.dot(left, w20, above)))
        here = tl.dot(right, w12, tl.dot(middle, w11, tl.dot(left, w10, here)))
        below = tl.dot(left, w00)
        below = tl.dot(right, w02, tl.dot(middle, w01, below))
        total = above + shift
        if ADD:
            total += added.to(tl.float32)
        if RELU:
            total = tl.maximum(total, 0.0)
        tl.store(out + place, total.to(out.dtype.element_ty), mask=inside)
        above = here
        here = below


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


@triton.jit(do_not_specialize=["area", "chunks"])
def moments(x, partial, area, chunks, C: tl.constexpr, WIDTH: tl.constexpr, CHUNK: tl.constexpr, PIXELS: tl.constexpr):
    """Sums and sums of squares over CHUNK pixels: x (B, area, C) fp16 -> partial (B, chunks, 2, C) fp32.

    WIDTH is C rounded up to a power of two. The sums are added up by `settle` in a fixed order: atomic additions would
    give other last bits from run to run.
    """
    n = tl.arange(0, WIDTH)
    image = tl.program_id(1)
    first = tl.program_id(0) * CHUNK
    total = tl.zeros((WIDTH,), tl.float32)
    square = tl.zeros((WIDTH,), tl.float32)
    for step in range(CHUNK // PIXELS):
        p = first + step * PIXELS + tl.arange(0, PIXELS)
        inside = (p < area)[:, None] & (n < C)[None, :]
        value = tl.load(x + (image * area + p)[:, None] * C + n[None, :], mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(value, 0)
        square += tl.sum(value * value, 0)
    place = partial + ((image * chunks + tl.program_id(0)) * 2) * C + n
    tl.store(place, total, mask=n < C)
    tl.store(place + C, square, mask=n < C)


@triton.jit(do_not_specialize=["area", "chunks"])
def settle(partial, scale, area, chunks, C: tl.constexpr, WIDTH: tl.constexpr):
    """`moments` -> what normalises: scale (B, 2, C) fp32, the factor and the summand of every channel."""
    n = tl.arange(0, WIDTH)
    image = tl.program_id(0)
    total = tl.zeros((WIDTH,), tl.float32)
    square = tl.zeros((WIDTH,), tl.float32)
    for chunk in range(chunks):
        place = partial + ((image * chunks + chunk) * 2) * C + n
        total += tl.load(place, mask=n < C, other=0.0)
        square += tl.load(place + C, mask=n < C, other=0.0)
    mean = total / area
    factor = 1 / tl.sqrt(tl.maximum(square / area - mean * mean, 0.0) + 1e-5)
    tl.store(scale + image * 2 * C + n, factor, mask=n < C)
    tl.store(scale + image * 2 * C + C + n, -mean * factor, mask=n < C)


@triton.jit(do_not_specialize=["area"])
def normalise(
    x,
    scale,
    shortcut,
    out,
    area,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    PIXELS: tl.constexpr,
    RELU: tl.constexpr,
    ADD: tl.constexpr,
):
    """out = relu(x * factor + summand), then relu(shortcut + that): x, shortcut, out (B, area, C) fp16."""
    n = tl.arange(0, WIDTH)
    image = tl.program_id(1)
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = (p < area)[:, None] & (n < C)[None, :]
    place = (image * area + p)[:, None] * C + n[None, :]
    factor = tl.load(scale + image * 2 * C + n, mask=n < C, other=0.0)
    summand = tl.load(scale + image * 2 * C + C + n, mask=n < C, other=0.0)
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) * factor[None, :] + summand[None, :]
    if RELU:
        value = tl.maximum(value, 0.0)
    if ADD:
        value = tl.maximum(value + tl.load(shortcut + place, mask=inside, other=0.0).to(tl.float32), 0.0)
    tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["rows", "columns", "height", "width", "first"])
def look_up(
    current,
    previous,
    position,
    out,
    rows,
    columns,
    height,
    width,
    shrink,
    scale,
    first,
    C: tl.constexpr,
    RADIUS: tl.constexpr,
    TOTAL: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """Correlation of every pixel with a window of one pyramid level, computed where it is looked at.

    current (B, rows, columns, C) fp16, previous (B, height, width, C) fp16, the level; position (B, 2, rows, columns)
    fp32, (x, y) on the finest level, `shrink` times as large as on this one. (2 RADIUS + 1)^2 channels of out (B, rows,
    columns, TOTAL), from `first` on, receive the products times `scale`, sampled bilinearly, zero outside; the window
    runs down its columns first. RADIUS is 3: the 7 samples of a row lie between 8 products.
    """
    image = tl.program_id(1)
    area = rows * columns
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = p < area
    x = tl.load(position + 2 * image * area + p, mask=inside, other=0.0) * shrink
    y = tl.load(position + (2 * image + 1) * area + p, mask=inside, other=0.0) * shrink
    # Positions far outside see only zeros; the bound keeps their integer parts within 32 bits.
    x = tl.minimum(tl.maximum(x, -64.0), width + 64.0)
    y = tl.minimum(tl.maximum(y, -64.0), height + 64.0)
    x0 = tl.floor(x)
    y0 = tl.floor(y)
    fx = (x - x0)[:, None, None]
    fy = (y - y0)[:, None]
    k = tl.arange(0, C)
    query = tl.load(current + (image * area + p)[:, None] * C + k[None, :], mask=inside[:, None], other=0.0)
    query = query.to(tl.float32)[:, None, :] * scale
    i = tl.arange(0, 8)
    same = (i[:, None] == i[None, :]).to(tl.float32)[None, :, :]
    next_one = (i[:, None] == i[None, :] + 1).to(tl.float32)[None, :, :]
    between = same * (1 - fx) + next_one * fx  # products (second axis) -> samples (third axis)
    # On a level that has shrunk to one column or row, raft.py finds that one everywhere along the axis.
    tx = tl.where(width > 1, x0.to(tl.int32)[:, None] - RADIUS + i[None, :], 0)
    within = inside[:, None] & (tx >= 0) & (tx < width)
    place = out + (image * area + p)[:, None] * TOTAL + first + i[None, :] * (2 * RADIUS + 1)
    wanted = inside[:, None] & (i < 2 * RADIUS + 1)[None, :]
    above = tl.zeros((PIXELS, 8), tl.float32)
    for dy in range(2 * RADIUS + 2):
        ty = tl.where(height > 1, y0.to(tl.int32) - RADIUS + dy, 0)[:, None]
        seen = within & (ty >= 0) & (ty < height)
        at = previous + ((image * height + ty) * width + tx)[:, :, None] * C + k[None, None, :]
        products = tl.sum(query * tl.load(at, mask=seen[:, :, None], other=0.0).to(tl.float32), 2)
        row = tl.sum(products[:, :, None] * between, 1)
        sample = above * (1 - fy) + row * fy
        tl.store(place + dy - 1, sample.to(out.dtype.element_ty), mask=wanted & (dy > 0))
        above = row
