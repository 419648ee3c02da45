/* The plugin's native part: it registers the functions, finds Python, and hands every call to vs_rafrvsr.plugin.filter.
   cffi puts the declarations of the extern "Python" functions in front of this text. */
#include <VSHelper4.h>
#include <VapourSynth4.h>
#include <stdatomic.h>
#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

static void rafrvsr_call(int function, const VSMap *in, VSMap *out, VSCore *core, const VSAPI *vsapi);
static const VSFrame *rafrvsr_get_frame(int n, int reason, void *data, void **frame_data, VSFrameContext *ctx,
                                        VSCore *core, const VSAPI *vsapi);
static void rafrvsr_free(void *data, VSCore *core, const VSAPI *vsapi);

enum { UPSCALE, VERSION, MODELS };
enum { UNSPECIFIED = 2 }; /* ITU-T H.273 */

/* Set by vs_rafrvsr.plugin.filter in the copy of this library that it has imported. */
static int rafrvsr_ready = 0;

/* At exit Python says that it is closing and waits until no frame is being made: a thread that enters a Python which
   is being taken down would never come back. */
static atomic_int closing = 0, inside = 0;

static int rafrvsr_close(void) {
    closing = 1;
    return inside;
}

/* Several of VapourSynth's functions at once. Every call from Python lets another thread take the interpreter, and with
   many threads it is the waiting to have it back that costs. None returns void: cffi's wrapper of such a function
   refers to Py_None, and the library could not be loaded by a host without Python. */
static int rafrvsr_integers(const VSFrame **frames, int count, char *const *keys, int key_count, int64_t *values,
                            int *missing, const VSAPI *vsapi) {
    for (int i = 0; i < count; i++) {
        const VSMap *props = vsapi->getFramePropertiesRO(frames[i]);
        for (int k = 0; k < key_count; k++, values++, missing++)
            *values = vsapi->mapGetInt(props, keys[k], 0, missing);
    }
    return count;
}

/* A packed frame is its planes one after the other, rows without padding; that of no frame is zeros. */
static int rafrvsr_pack(const VSFrame **frames, int count, uint8_t *packed, ptrdiff_t bytes, const VSAPI *vsapi) {
    for (int i = 0; i < count; i++) {
        uint8_t *target = packed + i * bytes;
        if (!frames[i])
            memset(target, 0, bytes);
        else {
            const VSVideoFormat *format = vsapi->getVideoFrameFormat(frames[i]);
            for (int p = 0; p < format->numPlanes; p++) {
                const ptrdiff_t row = (ptrdiff_t)vsapi->getFrameWidth(frames[i], p) * format->bytesPerSample;
                const int height = vsapi->getFrameHeight(frames[i], p);
                vsh_bitblt(target, row, vsapi->getReadPtr(frames[i], p), vsapi->getStride(frames[i], p), row, height);
                target += row * height;
            }
        }
    }
    return count;
}

static VSFrame *rafrvsr_unpack(const uint8_t *packed, const VSVideoFormat *format, int width, int height,
                               VSCore *core, const VSAPI *vsapi) {
    VSFrame *frame = vsapi->newVideoFrame(format, width, height, NULL, core);
    for (int p = 0; p < format->numPlanes; p++) {
        const ptrdiff_t row = (ptrdiff_t)vsapi->getFrameWidth(frame, p) * format->bytesPerSample;
        const int rows = vsapi->getFrameHeight(frame, p);
        vsh_bitblt(vsapi->getWritePtr(frame, p), vsapi->getStride(frame, p), packed, row, row, rows);
        packed += row * rows;
    }
    return frame;
}

/* Frame n of `node` with the properties of frame n of `clip`; but its own integers of some names come first, and `lone`
   it has from itself alone. The integers and texts of `more` are appended. Where no matrix is specified it gets `guess`,
   if that is not negative. */
static VSFrame *rafrvsr_dress(int n, VSNode *node, VSNode *clip, char *const *kept, int kept_count, const char *lone,
                              const VSMap *more, int guess, int *guessed, VSFrameContext *ctx, VSCore *core,
                              const VSAPI *vsapi) {
    const VSFrame *bare = vsapi->getFrameFilter(n, node, ctx), *source = vsapi->getFrameFilter(n, clip, ctx);
    VSFrame *dressed = vsapi->copyFrame(bare, core);
    const VSMap *own = vsapi->getFramePropertiesRO(bare);
    VSMap *props = vsapi->getFramePropertiesRW(dressed);
    int missing;
    vsapi->clearMap(props);
    vsapi->copyMap(vsapi->getFramePropertiesRO(source), props);
    vsapi->mapDeleteKey(props, lone);
    for (int k = 0; k < kept_count; k++) {
        const int64_t value = vsapi->mapGetInt(own, kept[k], 0, &missing);
        if (!missing)
            vsapi->mapSetInt(props, kept[k], value, maReplace);
    }
    const int64_t matrix = vsapi->mapGetInt(props, "_Matrix", 0, &missing);
    *guessed = guess >= 0 && (missing || matrix == UNSPECIFIED);
    if (*guessed)
        vsapi->mapSetInt(props, "_Matrix", guess, maReplace);
    for (int i = 0; i < vsapi->mapNumKeys(more); i++) {
        const char *key = vsapi->mapGetKey(more, i);
        if (vsapi->mapGetType(more, key) == ptInt)
            vsapi->mapSetInt(props, key, vsapi->mapGetInt(more, key, 0, NULL), maAppend);
        else
            vsapi->mapSetData(props, key, vsapi->mapGetData(more, key, 0, NULL),
                              vsapi->mapGetDataSize(more, key, 0, NULL), dtUtf8, maAppend);
    }
    vsapi->freeFrame(bare);
    vsapi->freeFrame(source);
    return dressed;
}

static int rafrvsr_request(const int *numbers, int count, VSNode *node, VSFrameContext *ctx, const VSAPI *vsapi) {
    for (int i = 0; i < count; i++)
        vsapi->requestFrameFilter(numbers[i], node, ctx);
    return count;
}

static int rafrvsr_take(const int *numbers, int count, const VSFrame **frames, VSNode *node, VSFrameContext *ctx,
                        const VSAPI *vsapi) {
    for (int i = 0; i < count; i++)
        frames[i] = vsapi->getFrameFilter(numbers[i], node, ctx);
    return count;
}

static int rafrvsr_release(const int *numbers, int count, const VSFrame **frames, VSNode *node, VSFrameContext *ctx,
                           const VSAPI *vsapi) {
    for (int i = 0; i < count; i++) {
        vsapi->freeFrame(frames[i]);
        vsapi->releaseFrameEarly(node, numbers[i], ctx);
    }
    return count;
}

/* A host may have no Python at all. Asking the loader comes first: touching a Python symbol there would kill the host. */
static int python_runs(void) {
    int (*is_initialized)(void);
#ifdef _WIN32
    HMODULE python = GetModuleHandleW(L"python3.dll");
    is_initialized = python ? (int (*)(void))GetProcAddress(python, "Py_IsInitialized") : NULL;
#else
    is_initialized = (int (*)(void))dlsym(RTLD_DEFAULT, "Py_IsInitialized");
#endif
    return is_initialized && is_initialized();
}

static void set_import_error(VSMap *out, const VSAPI *vsapi) {
    PyObject *error = PyErr_GetRaisedException();
    PyObject *kind = error ? PyType_GetName(Py_TYPE(error)) : NULL;
    PyObject *text = kind ? PyUnicode_FromFormat(
        "Upscale: the package vs_rafrvsr could not be imported in this Python: %S: %S. "
        "Run `python -m vs_rafrvsr doctor` with the same Python to see what is missing.", kind, error) : NULL;
    const char *message = text ? PyUnicode_AsUTF8AndSize(text, NULL) : NULL;
    vsapi->mapSetError(out, message ? message : "Upscale: the package vs_rafrvsr could not be imported");
    Py_XDECREF(text);
    Py_XDECREF(kind);
    Py_XDECREF(error);
    PyErr_Clear();
}

static int import_filter(VSMap *out, const VSAPI *vsapi) {
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *module = PyImport_ImportModule("vs_rafrvsr.plugin.filter");
    if (!module)
        set_import_error(out, vsapi);
    else if (!rafrvsr_ready)
        vsapi->mapSetError(out, "Upscale: this library is a second copy of the plugin. Remove it: the one inside the "
                                "Python package vapoursynth (folder plugins) is found by itself.");
    Py_XDECREF(module);
    PyGILState_Release(gil);
    return module && rafrvsr_ready;
}

static void VS_CC enter_call(const VSMap *in, VSMap *out, void *function, VSCore *core, const VSAPI *vsapi) {
    if (!python_runs())
        vsapi->mapSetError(out, "Upscale: this program runs no Python, and the filter is written in it. "
                                "Use vspipe, a previewer or Python from an environment that has vapoursynth-rafrvsr.");
    else if (import_filter(out, vsapi))
        rafrvsr_call((int)(intptr_t)function, in, out, core, vsapi);
}

static const VSFrame *VS_CC enter_get_frame(int n, int reason, void *data, void **frame_data, VSFrameContext *ctx,
                                            VSCore *core, const VSAPI *vsapi) {
    const VSFrame *frame = NULL;
    inside++;
    if (!closing && python_runs())
        frame = rafrvsr_get_frame(n, reason, data, frame_data, ctx, core, vsapi);
    else
        vsapi->setFilterError("Upscale: Python is being shut down", ctx);
    inside--;
    return frame;
}

static void VS_CC enter_free(void *data, VSCore *core, const VSAPI *vsapi) {
    if (python_runs())
        rafrvsr_free(data, core, vsapi);
}

/* Python passes these to createVideoFilter2. As variables, not functions, they need no wrapper of cffi's, whose
   reference to Py_None would keep the library from loading in a host without Python. */
static const VSFilterGetFrame rafrvsr_enter_get_frame = enter_get_frame;
static const VSFilterFree rafrvsr_enter_free = enter_free;

VS_EXTERNAL_API(void) VapourSynthPluginInit2(VSPlugin *plugin, const VSPLUGINAPI *vspapi) {
    vspapi->configPlugin("org.vapoursynth.rafrvsr", "rafrvsr", "RAFRVSR: x4 recurrent video super-resolution",
                         VS_MAKE_VERSION(0, 1), VAPOURSYNTH_API_VERSION, 0, plugin);
    vspapi->registerFunction("Upscale",
                             "clip:vnode;model:data:opt;weights:data:opt;device:data:opt;precision:data:opt;"
                             "tile:int[]:opt;scenecut:data:opt;scenecut_threshold:float:opt;leadin:int:opt;"
                             "chunk:int:opt;warmup:int:opt;flow_updates:int:opt;",
                             "clip:vnode;", enter_call, (void *)(intptr_t)UPSCALE, plugin);
    vspapi->registerFunction("Version", "", "version:data;", enter_call, (void *)(intptr_t)VERSION, plugin);
    vspapi->registerFunction("Models", "", "name:data[];", enter_call, (void *)(intptr_t)MODELS, plugin);
}
