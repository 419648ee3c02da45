/* A host that does what vsedit does, for ever in one process: evaluate a script, ask for frames out of order from a
   callback API, drop half of them, evaluate again.   editor SCRIPT ROUNDS -> "round hash rss_kib" a line, on stdout. */
#include <VSScript4.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { FRAMES = 12, WANTED = 6 };

static const VSAPI *api;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int in_flight, lost, dropping;
static uint64_t hashes[FRAMES];

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
    if (!frame) {
        fprintf(stderr, "frame %d: %s\n", n, error);
        lost++;
    } else if (!dropping)
        hashes[n] = hash(frame);
    api->freeFrame(frame);
    if (!--in_flight)
        pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void play(VSNode *node, int round) {
    pthread_mutex_lock(&lock);
    dropping = 0;
    for (int i = 0; i < WANTED; i++) {
        in_flight++;
        api->getFrameAsync((i * 7 + round * 5) % FRAMES, node, done, NULL);
    }
    dropping = round % 2; /* the user typed on: what is on its way is thrown away when it comes */
    while (in_flight)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
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
    const VSSCRIPTAPI *scripts = getVSScriptAPI(VSSCRIPT_API_VERSION);
    if (count != 3 || !scripts)
        return 2;
    api = scripts->getVSAPI(VAPOURSYNTH_API_VERSION);
    for (int round = 0; round < atoi(words[2]); round++) {
        VSScript *script = scripts->createScript(NULL);
        if (scripts->evaluateFile(script, words[1])) {
            fprintf(stderr, "%s\n", scripts->getError(script));
            return 1;
        }
        VSNode *node = scripts->getOutputNode(script, 0);
        play(node, round);
        api->freeNode(node);
        scripts->freeScript(script);
        printf("%d %ld", round, resident());
        for (int n = 0; n < FRAMES; n++)
            printf(" %llx", (unsigned long long)hashes[n]);
        puts("");
    }
    return lost ? 1 : 0;
}
