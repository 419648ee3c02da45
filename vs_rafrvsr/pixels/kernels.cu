/* Pixels between a frame's planes and the network's RGB tensor.

   Compiled for one row of formats.py at a time, which defines
       FAMILY        GRAY, RGB or YUV
       SAMPLE        U8, U16, Half or float: a sample of the planes
       SUB_W, SUB_H  log2 of the chroma subsampling, 0 or 1

   A frame is one array: its planes one after the other, rows without padding. The tensor is fp32 and has any strides.
   What a thread does is a plain function, so that the same text compiles for the CPU, where the tests check it; and it
   includes no header, so that the compiler needs none. */

#define GRAY 0
#define RGB 1
#define YUV 2

typedef unsigned char U8;
typedef unsigned short U16;
struct Half { U16 bits; };

struct Filter {
    int first[2];        // of the samples that an output takes, by the output's phase
    float weight[2][8];
};

struct Parameters {      // colour.py fills it in
    long long strides[3];    // of the tensor, in elements: channel, row, column
    int width, height;       // of luma
    float affine[3][4];      // codes -> RGB, or RGB -> codes
    Filter across, down;     // chroma -> luma, or luma -> chroma
    float top;               // the greatest code
};
static_assert(sizeof(Parameters) == 232, "colour.py has the same layout");

#ifdef __CUDACC__
#define DEVICE __device__ __forceinline__
DEVICE float number(Half h) { float f; asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h.bits)); return f; }
DEVICE Half to_half(float f) { Half h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h.bits) : "f"(f)); return h; }
#else
#define DEVICE static inline
#define rintf __builtin_rintf
DEVICE float number(Half h) { _Float16 f; __builtin_memcpy(&f, &h, 2); return f; }
DEVICE Half to_half(float x) { _Float16 f = (_Float16)x; Half h; __builtin_memcpy(&h, &f, 2); return h; }
#endif

DEVICE float number(float f) { return f; }
DEVICE float number(U8 code) { return code; }
DEVICE float number(U16 code) { return code; }

/* A code: to the nearest, halves to the even one, within what the format can hold; NaN gives 0. */
DEVICE float rounded(float x, float top) { return x > 0 ? rintf(x < top ? x : top) : 0; }

DEVICE void store(U8 &at, float x, float top) { at = (U8)rounded(x, top); }
DEVICE void store(U16 &at, float x, float top) { at = (U16)rounded(x, top); }
DEVICE void store(Half &at, float x, float) { at = to_half(x); }
DEVICE void store(float &at, float x, float) { at = x; }

/* NaN becomes 0, infinities the end of the nominal range: one bad sample must not poison the recurrence. */
DEVICE float finite(float x) {
    const float most = 3.402823466e38f;
    return x > most ? 1 : x >= -most ? x : 0;
}

/* Beyond its edge a plane is mirrored with the edge sample repeated; as far as the mirror image goes, then held. */
DEVICE int inside(int i, int size) {
    i = i < 0 ? -1 - i : i < size ? i : 2 * size - 1 - i;
    return i < 0 ? 0 : i < size ? i : size - 1;
}

/* How many samples the filter takes along each side: Catmull-Rom has 4, and 8 where it scales down by 2. */
enum { UP_W = SUB_W ? 4 : 1, UP_H = SUB_H ? 4 : 1, DOWN_W = SUB_W ? 8 : 1, DOWN_H = SUB_H ? 8 : 1 };

/* Chroma at luma's (x, y), in codes. */
DEVICE float chroma_at(const SAMPLE *plane, int x, int y, const Parameters &p) {
    const int width = p.width >> SUB_W, height = p.height >> SUB_H;
    const int left = (x >> SUB_W) + p.across.first[x & SUB_W], top = (y >> SUB_H) + p.down.first[y & SUB_H];
    float sum = 0;
    for (int j = 0; j < UP_H; ++j) {
        const SAMPLE *row = plane + (long long)inside(top + j, height) * width;
        float line = 0;
        for (int i = 0; i < UP_W; ++i)
            line += p.across.weight[x & SUB_W][i] * number(row[inside(left + i, width)]);
        sum += p.down.weight[y & SUB_H][j] * line;
    }
    return sum;
}

/* The pixel (x, y) of the tensor. */
DEVICE void pixel_in(const SAMPLE *planes, float *rgb, int x, int y, const Parameters &p) {
    const long long area = (long long)p.width * p.height, at = (long long)y * p.width + x;
    const SAMPLE *u = planes + area, *v = u + (area >> (SUB_W + SUB_H));
    float code[3] = {number(planes[at]), 0, 0};
    if (FAMILY == RGB) {
        code[1] = number(u[at]);
        code[2] = number(v[at]);
    } else if (FAMILY == YUV) {
        code[1] = chroma_at(u, x, y, p);
        code[2] = chroma_at(v, x, y, p);
    }
    for (int c = 0; c < 3; ++c) {
        const float *a = p.affine[c];
        // In RGB, an infinity must not reach the other channels as 0 * infinity.
        const float value = FAMILY == YUV   ? a[0] * code[0] + a[1] * code[1] + a[2] * code[2] + a[3]
                            : FAMILY == RGB ? a[c] * code[c] + a[3]
                                            : a[0] * code[0] + a[3];
        store(rgb[c * p.strides[0] + y * p.strides[1] + x * p.strides[2]], finite(value), 1);
    }
}

DEVICE void rgb_at(const float *row, long long x, const Parameters &p, float rgb[3]) {
    for (int c = 0; c < 3; ++c)
        rgb[c] = number(row[c * p.strides[0] + x * p.strides[2]]);
}

DEVICE float code_of(const float rgb[3], int plane, const Parameters &p) {
    const float *a = p.affine[plane];
    return a[0] * rgb[0] + a[1] * rgb[1] + a[2] * rgb[2] + a[3];
}

/* The first plane's samples from (x, y) on that lie over one chroma sample; of RGB the other planes' too. */
DEVICE void pixels_out(const float *rgb, SAMPLE *planes, int left, int top, const Parameters &p) {
    const long long area = (long long)p.width * p.height;
    for (int y = top; y < top + (1 << SUB_H); ++y)
        for (int x = left; x < left + (1 << SUB_W); ++x) {
            float value[3];
            rgb_at(rgb + y * p.strides[1], x, p, value);
            for (int plane = 0; plane < (FAMILY == RGB ? 3 : 1); ++plane)
                store(planes[plane * area + (long long)y * p.width + x], code_of(value, plane, p), p.top);
        }
}

/* A thread makes this many chroma samples, one below the other: it filters every row that they share only once. */
enum { STRIP = 4 };

/* Chroma samples (x, top) to (x, top + STRIP - 1). The filter runs over RGB, which is the same, being linear. */
DEVICE void chroma_out(const float *rgb, SAMPLE *planes, int x, int top, const Parameters &p) {
    const long long area = (long long)p.width * p.height;
    const int width = p.width >> SUB_W, height = p.height >> SUB_H;
    const int first = (top << SUB_H) + p.down.first[0];
    int columns[DOWN_W];
    for (int i = 0; i < DOWN_W; ++i)
        columns[i] = inside((x << SUB_W) + p.across.first[0] + i, p.width);
    float sum[STRIP][3] = {};
#ifdef __CUDACC__
#pragma unroll
#endif
    for (int j = 0; j < DOWN_H + ((STRIP - 1) << SUB_H); ++j) {
        const float *row = rgb + inside(first + j, p.height) * p.strides[1];
        float line[3] = {};
        for (int i = 0; i < DOWN_W; ++i) {
            float value[3];
            rgb_at(row, columns[i], p, value);
            for (int c = 0; c < 3; ++c)
                line[c] += p.across.weight[0][i] * value[c];
        }
        for (int k = 0; k < STRIP; ++k) {
            const int tap = j - (k << SUB_H);
            if (tap >= 0 && tap < DOWN_H)
                for (int c = 0; c < 3; ++c)
                    sum[k][c] += p.down.weight[0][tap] * line[c];
        }
    }
    for (int k = 0; k < STRIP && top + k < height; ++k)
        for (int plane = 1; plane < 3; ++plane) {
            SAMPLE *start = planes + area + (plane - 1) * (area >> (SUB_W + SUB_H));
            store(start[(long long)(top + k) * width + x], code_of(sum[k], plane, p), p.top);
        }
}

/* All planes under the chroma samples (x, STRIP * strip) and the STRIP - 1 below it. */
DEVICE void strip_out(const float *rgb, SAMPLE *planes, int x, int strip, const Parameters &p) {
    const int top = strip * STRIP, height = p.height >> SUB_H;
    for (int y = top; y < top + STRIP && y < height; ++y)
        pixels_out(rgb, planes, x << SUB_W, y << SUB_H, p);
    if (FAMILY == YUV)
        chroma_out(rgb, planes, x, top, p);
}

#ifdef __CUDACC__
/* Frames of one colour that lie one after the other, planes and tensors, a layer of the grid each. */
extern "C" __global__ void planes_to_rgb(const SAMPLE *planes, float *rgb, Parameters p) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    const long long area = (long long)p.width * p.height, frame = blockIdx.z;
    const long long samples = FAMILY == GRAY ? area : FAMILY == RGB ? 3 * area : area + 2 * (area >> (SUB_W + SUB_H));
    if (x < p.width && y < p.height)
        pixel_in(planes + frame * samples, rgb + frame * 3 * p.strides[0], x, y, p);
}

extern "C" __global__ void rgb_to_planes(const float *rgb, SAMPLE *planes, Parameters p) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, strip = blockIdx.y * blockDim.y + threadIdx.y;
    if (x < p.width >> SUB_W && strip * STRIP < p.height >> SUB_H)
        strip_out(rgb, planes, x, strip, p);
}
#else
extern "C" void planes_to_rgb(const SAMPLE *planes, float *rgb, const Parameters *p) {
    for (int y = 0; y < p->height; ++y)
        for (int x = 0; x < p->width; ++x)
            pixel_in(planes, rgb, x, y, *p);
}

extern "C" void rgb_to_planes(const float *rgb, SAMPLE *planes, const Parameters *p) {
    for (int strip = 0; strip * STRIP < p->height >> SUB_H; ++strip)
        for (int x = 0; x < p->width >> SUB_W; ++x)
            strip_out(rgb, planes, x, strip, *p);
}
#endif
