/* A program with no Python in it that loads VapourSynth and calls the filter: it must get an error and live on. */
#include <VapourSynth4.h>
#include <stdio.h>

int main(void) {
    const VSAPI *vsapi = getVapourSynthAPI(VAPOURSYNTH_API_VERSION);
    VSCore *core = vsapi->createCore(0);
    VSMap *none = vsapi->createMap();
    VSMap *blank = vsapi->invoke(vsapi->getPluginByNamespace("std", core), "BlankClip", none);
    VSPlugin *plugin = vsapi->getPluginByNamespace("rafrvsr", core);
    if (!plugin) {
        puts("the plugin did not load");
        return 1;
    }
    VSMap *result = vsapi->invoke(plugin, "Upscale", blank);
    printf("error: %s\n", vsapi->mapGetError(result));
    VSMap *again = vsapi->invoke(vsapi->getPluginByNamespace("std", core), "BlankClip", none);
    printf("alive: %d\n", vsapi->mapNumElements(again, "clip"));
    vsapi->freeMap(again);
    vsapi->freeMap(result);
    vsapi->freeMap(blank);
    vsapi->freeMap(none);
    vsapi->freeCore(core);
    return 0;
}
