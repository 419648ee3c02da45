"""Build the plugin library: a cffi extension that VapourSynth loads and that calls back into Python.

The same file is both a VapourSynth plugin (it exports VapourSynthPluginInit2) and a Python extension module (it holds
the callbacks). pyproject.toml names `BuildPlugin` as setuptools' `build_ext`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cffi import FFI
from setuptools import Extension
from setuptools.command.build_ext import build_ext
from vapoursynth import get_include

MODULE = "rafrvsr"

DECLARATIONS = """
typedef struct VSFrame VSFrame;
typedef struct VSNode VSNode;
typedef struct VSCore VSCore;
typedef struct VSPlugin VSPlugin;
typedef struct VSMap VSMap;
typedef struct VSFrameContext VSFrameContext;

typedef struct { int colorFamily, sampleType, bitsPerSample, bytesPerSample, subSamplingW, subSamplingH, numPlanes;
                 ...; } VSVideoFormat;
typedef struct { VSVideoFormat format; int64_t fpsNum, fpsDen; int width, height, numFrames; ...; } VSVideoInfo;
typedef struct { VSNode *source; int requestPattern; ...; } VSFilterDependency;

#define cfRGB ...
#define cfYUV ...
#define stInteger ...
#define pfRGBS ...
#define arInitial ...
#define arAllFramesReady ...
#define arError ...
#define fmParallel ...
#define rpGeneral ...
#define rpStrictSpatial ...
#define maReplace ...
#define maAppend ...
#define dtUtf8 ...
#define ptFloat ...
#define ptData ...
#define mtInformation ...
#define mtWarning ...
#define UNSPECIFIED ...

typedef const VSFrame *(*VSFilterGetFrame)(int, int, void *, void **, VSFrameContext *, VSCore *, const struct VSAPI *);
typedef void (*VSFilterFree)(void *, VSCore *, const struct VSAPI *);

typedef struct VSAPI {
    VSNode *(*createVideoFilter2)(const char *name, const VSVideoInfo *vi, VSFilterGetFrame getFrame,
        VSFilterFree free, int filterMode, const VSFilterDependency *deps, int numDeps, void *data, VSCore *core);
    void (*freeNode)(VSNode *node);
    VSNode *(*addNodeRef)(VSNode *node);
    const VSVideoInfo *(*getVideoInfo)(VSNode *node);
    void (*freeFrame)(const VSFrame *f);
    VSMap *(*getFramePropertiesRW)(VSFrame *f);
    int (*getVideoFormatName)(const VSVideoFormat *format, char *buffer);
    uint32_t (*queryVideoFormatID)(int family, int sampleType, int bits, int subW, int subH, VSCore *core);
    const VSFrame *(*getFrameFilter)(int n, VSNode *node, VSFrameContext *ctx);
    void (*requestFrameFilter)(int n, VSNode *node, VSFrameContext *ctx);
    void (*setFilterError)(const char *message, VSFrameContext *ctx);
    VSMap *(*createMap)(void);
    void (*freeMap)(VSMap *map);
    void (*mapSetError)(VSMap *map, const char *message);
    const char *(*mapGetError)(const VSMap *map);
    int (*mapNumElements)(const VSMap *map, const char *key);
    int (*mapGetType)(const VSMap *map, const char *key);
    int64_t (*mapGetInt)(const VSMap *map, const char *key, int index, int *error);
    int (*mapSetInt)(VSMap *map, const char *key, int64_t i, int append);
    double (*mapGetFloat)(const VSMap *map, const char *key, int index, int *error);
    const char *(*mapGetData)(const VSMap *map, const char *key, int index, int *error);
    int (*mapGetDataSize)(const VSMap *map, const char *key, int index, int *error);
    int (*mapSetData)(VSMap *map, const char *key, const char *data, int size, int type, int append);
    VSNode *(*mapGetNode)(const VSMap *map, const char *key, int index, int *error);
    int (*mapSetNode)(VSMap *map, const char *key, VSNode *node, int append);
    int (*mapConsumeNode)(VSMap *map, const char *key, VSNode *node, int append);
    VSPlugin *(*getPluginByID)(const char *identifier, VSCore *core);
    VSMap *(*invoke)(VSPlugin *plugin, const char *name, const VSMap *args);
    void (*logMessage)(int type, const char *message, VSCore *core);
    ...;
} VSAPI;

enum { UPSCALE, VERSION, MODELS };
static int rafrvsr_ready;
int rafrvsr_close(void);

int rafrvsr_integers(const VSFrame **frames, int count, char *const *keys, int key_count, int64_t *values, int *missing,
    const VSAPI *vsapi);
int rafrvsr_pack(const VSFrame **frames, int count, uint8_t *packed, ptrdiff_t bytes, const VSAPI *vsapi);
VSFrame *rafrvsr_unpack(const uint8_t *packed, const VSVideoFormat *format, int width, int height, VSCore *core,
    const VSAPI *vsapi);
VSFrame *rafrvsr_dress(int n, VSNode *node, VSNode *clip, char *const *kept, int kept_count, const char *lone,
    const VSMap *more, int guess, int *guessed, VSFrameContext *ctx, VSCore *core, const VSAPI *vsapi);
int rafrvsr_request(const int *numbers, int count, VSNode *node, VSFrameContext *ctx, const VSAPI *vsapi);
int rafrvsr_take(const int *numbers, int count, const VSFrame **frames, VSNode *node, VSFrameContext *ctx,
    const VSAPI *vsapi);
int rafrvsr_release(const int *numbers, int count, const VSFrame **frames, VSNode *node, VSFrameContext *ctx,
    const VSAPI *vsapi);

extern "Python" {
    void rafrvsr_call(int function, const VSMap *in, VSMap *out, VSCore *core, const VSAPI *vsapi);
    const VSFrame *rafrvsr_get_frame(int n, int reason, void *data, void **frame_data, VSFrameContext *ctx,
        VSCore *core, const VSAPI *vsapi);
    void rafrvsr_free(void *data, VSCore *core, const VSAPI *vsapi);
}

extern const VSFilterGetFrame rafrvsr_enter_get_frame;
extern const VSFilterFree rafrvsr_enter_free;
"""

SOURCE = Path(__file__).with_name("door.c")


class BuildPlugin(build_ext):
    """Emit the C text, compile it, and name the library as VapourSynth's plugin loader wants it."""

    def get_ext_filename(self, fullname: str) -> str:
        """`vapoursynth.plugins.rafrvsr` -> vapoursynth/plugins/rafrvsr.so: the loader skips names like .abi3.so."""
        suffix = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
        return str(Path(*fullname.split(".")).with_suffix(suffix))

    def build_extension(self, ext: Extension) -> None:
        """Generate the source, which exists at build time only, and compile it against VapourSynth's header."""
        builder = FFI()
        builder.cdef(DECLARATIONS)
        builder.set_source(MODULE, SOURCE.read_text(), py_limited_api=True)
        generated = Path(self.build_temp) / f"{MODULE}.c"
        generated.parent.mkdir(parents=True, exist_ok=True)
        builder.emit_c_code(str(generated))
        ext.sources = [str(generated)]
        ext.define_macros.append(("Py_LIMITED_API", "0x030c0000"))
        ext.include_dirs.append(get_include())
        super().build_extension(ext)
