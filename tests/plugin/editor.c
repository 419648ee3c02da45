/* A host that does what vsedit does, for ever in one process: evaluate a script, ask for frames out of order from a
   callback API, and in every second round drop them: its user typed on, so the next script is evaluated while they are
   on their way.   editor SCRIPT ROUNDS -> on stdout "frame N HASH" for each request, "memory KIB" for each round, and
   "dropped COUNT", the frames that were on their way when their script was. */
#include <VSScript4.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { FRAMES = 12, WANTED = 6 };

static const VSAPI *api;
static const VSSCRIPTAPI *scripts;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static atomic_int in_flight;
static int lost;

static uint64_t hash(const VSFrame *frame) {
    uint64_t value = 1469598103934665603u;
    for (int y = 0; y < api->getFrameHeight(frame, 0); y++) {
        const uint8_t *row = api->getReadPtr(frame, 0) + y * api->getStride(frame, 0);
        for (int x = 0; x < api->getFrameWidth(frame, 0); x++)
            value = (value ^ row[x]) * 1099511628211u;
    }
    return value;
}

static void VS_CC done(void *data, const VSFrame *frame, int n, VSNode *node, const char *error) {
    (void)data, (void)node;
    pthread_mutex_lock(&lock);
    if (frame)
        printf("frame %d %llx\n", n, (unsigned long long)hash(frame));
    else {
        fprintf(stderr, "frame %d: %s\n", n, error);
        lost++;
    }
    api->freeFrame(frame);
    if (!--in_flight)
        pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static VSScript *evaluate(const char *path) {
    VSScript *script = scripts->createScript(NULL);
    if (scripts->evaluateFile(script, path)) {
        fprintf(stderr, "%s\n", scripts->getError(script));
        exit(1);
    }
    return script;
}

static void ask(VSNode *node, int round) {
    in_flight = WANTED;
    for (int i = 0; i < WANTED; i++)
        api->getFrameAsync((i * 7 + round * 5) % FRAMES, node, done, NULL);
}

/* A script may be freed when its last frame has come. */
static void finish(VSScript *script) {
    pthread_mutex_lock(&lock);
    while (in_flight)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    scripts->freeScript(script);
}

static long resident(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1)
        exit(2);
    fclose(file);
    return pages * 4;
}

int main(int count, char **words) {
    scripts = getVSScriptAPI(VSSCRIPT_API_VERSION);
    if (count != 3 || !scripts)
        return 2;
    api = scripts->getVSAPI(VAPOURSYNTH_API_VERSION);
    VSScript *dropped = NULL;
    int on_their_way = 0;
    for (int round = 0; round < atoi(words[2]); round++) {
        VSScript *script = evaluate(words[1]);
        if (dropped)
            finish(dropped);
        VSNode *node = scripts->getOutputNode(script, 0);
        ask(node, round);
        api->freeNode(node);
        dropped = round % 2 ? script : NULL;
        if (dropped)
            on_their_way += in_flight;
        else
            finish(script);
        printf("memory %ld\n", resident());
    }
    if (dropped)
        finish(dropped);
    printf("dropped %d\n", on_their_way);
    return lost ? 1 : 0;
}
