/* A librbd and librados of its own for tests: images in memory, with threads that end operations late, in any order, with errors if told so, and that know
 * exclusive locks and clients that are locked out. What is not used by the rbd device is not here. */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define THREADS 3

typedef void (*on_completion)(void *, void *);
typedef void (*on_update)(void *);

struct client { long number; int locked_out; int locks_out; uint64_t size; int uses_cache; int connected; };
struct io { struct client *client; char pool[64]; };
struct blocks {
    char name[128];
    uint8_t *bytes;
    uint64_t size;
    struct client *owner;
    long owner_number;
    int held, failures, failure, refusals, refusal, opens, flushes, watches, zeroings;
    struct blocks *next;
};
struct image { struct client *client; struct blocks *blocks; int is_snapshot, is_read_only, asked_for_lock, under_way; on_update watch; void *watch_argument; struct image *next; };
struct completion { on_completion call; void *argument; ssize_t result; };
enum kind { READ, WRITE, ZERO, FLUSH };
struct operation { enum kind kind; struct image *image; uint64_t offset; size_t len; char *data; struct completion *completion; struct operation *next; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static struct blocks *all_blocks;
static struct image *all_images;
static struct operation *queue;
static long next_number = 4100;
static int threads_run;
static uint64_t random_state = 88172645463325252ULL;

static uint64_t any(uint64_t below) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % below;
}

static struct blocks *find(const char *name) {
    struct blocks *blocks = all_blocks;
    while (blocks && strcmp(blocks->name, name)) blocks = blocks->next;
    return blocks;
}

/* What an operation comes to. The lock is held. */
static ssize_t perform(struct operation *operation) {
    struct image *image = operation->image;
    struct blocks *blocks = image->blocks;
    if (image->client->locked_out) return -ESHUTDOWN;
    if (blocks->failures > 0) {
        blocks->failures--;
        return -blocks->failure;
    }
    if (operation->kind == FLUSH) {
        blocks->flushes++;
        return 0;
    }
    if (operation->offset >= blocks->size) return -EINVAL;
    size_t len = operation->len;
    if (len > blocks->size - operation->offset) len = blocks->size - operation->offset;
    if (operation->kind == READ) {
        memcpy(operation->data, blocks->bytes + operation->offset, len);
        return len;
    }
    if (image->is_read_only || image->is_snapshot) return -EROFS;
    /* Whoever has asked for the lock once does not ask again by itself. */
    if (blocks->owner && blocks->owner != image->client) return -EROFS;
    if (image->asked_for_lock && !blocks->owner) return -EROFS;
    if (operation->kind == ZERO) {
        blocks->zeroings++;
        memset(blocks->bytes + operation->offset, 0, len);
    } else
        memcpy(blocks->bytes + operation->offset, operation->data, len);
    return 0;
}

/* One that may be done now, any of them. */
static struct operation *take(void) {
    int count = 0;
    for (struct operation *at = queue; at; at = at->next) count += !at->image->blocks->held;
    if (!count) return NULL;
    int chosen = any(count);
    for (struct operation **at = &queue; *at; at = &(*at)->next) {
        if ((*at)->image->blocks->held || chosen--) continue;
        struct operation *operation = *at;
        *at = operation->next;
        return operation;
    }
    return NULL;
}

static void *work(void *nothing) {
    (void)nothing;
    pthread_mutex_lock(&lock);
    for (;;) {
        struct operation *operation = take();
        if (!operation) {
            pthread_cond_wait(&more, &lock);
            continue;
        }
        struct completion *completion = operation->completion;
        completion->result = perform(operation);
        int lateness = any(8) ? 0 : (int)any(200);
        struct image *image = operation->image;
        pthread_mutex_unlock(&lock);
        free(operation);
        if (lateness) usleep(lateness);
        completion->call(completion, completion->argument);
        pthread_mutex_lock(&lock);
        image->under_way--;
        pthread_cond_broadcast(&ended);
    }
    return NULL;
}

static int begin(enum kind kind, struct image *image, uint64_t offset, size_t len, char *data, void *completion) {
    pthread_mutex_lock(&lock);
    if (image->blocks->refusals > 0) {
        int refusal = image->blocks->refusal;
        image->blocks->refusals--;
        pthread_mutex_unlock(&lock);
        return -refusal;
    }
    struct operation *operation = calloc(1, sizeof *operation);
    *operation = (struct operation){ kind, image, offset, len, data, completion, queue };
    queue = operation;
    image->under_way++;
    for (; threads_run < THREADS; threads_run++) {
        pthread_t thread;
        pthread_create(&thread, NULL, work, NULL);
        pthread_detach(thread);
    }
    pthread_cond_signal(&more);
    pthread_mutex_unlock(&lock);
    return 0;
}

EXPORT int rados_create(void **rados, const char *user) {
    if (user && !strcmp(user, "nobody")) return -EINVAL;
    struct client *client = calloc(1, sizeof *client);
    client->number = __atomic_fetch_add(&next_number, 1, __ATOMIC_RELAXED);
    client->locks_out = 1;
    *rados = client;
    return 0;
}
EXPORT int rados_conf_read_file(void *rados, const char *path) { (void)rados; return path && access(path, R_OK) ? -ENOENT : 0; }
EXPORT int rados_conf_set(void *rados, const char *key, const char *value) {
    struct client *client = rados;
    if (!strcmp(key, "fake_size")) client->size = strtoull(value, NULL, 10);
    else if (!strcmp(key, "rbd_blocklist_on_break_lock")) client->locks_out = !strcmp(value, "true");
    else if (!strcmp(key, "rbd_cache")) client->uses_cache = !strcmp(value, "true");
    else if (strcmp(key, "rbd_blocklist_expire_seconds") && strcmp(key, "keyring")) return -ENOENT;
    return 0;
}
EXPORT int rados_connect(void *rados) { ((struct client *)rados)->connected = 1; return 0; }
/* Clients stay: images remember who has locked them. */
EXPORT void rados_shutdown(void *rados) { ((struct client *)rados)->connected = 0; }
EXPORT int rados_ioctx_create(void *rados, const char *pool, void **io) {
    if (!((struct client *)rados)->connected) return -ENOTCONN;
    if (!strcmp(pool, "nowhere")) return -ENOENT;
    struct io *made = calloc(1, sizeof *made);
    made->client = rados;
    snprintf(made->pool, sizeof made->pool, "%s", pool);
    *io = made;
    return 0;
}
EXPORT void rados_ioctx_set_namespace(void *io, const char *name) {
    struct io *named = io;
    strncat(named->pool, "/", sizeof named->pool - strlen(named->pool) - 1);
    strncat(named->pool, name, sizeof named->pool - strlen(named->pool) - 1);
}
EXPORT void rados_ioctx_destroy(void *io) { free(io); }

static int open_as(struct io *io, const char *name, void **image, const char *snapshot, int is_read_only) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", io->pool, name);
    pthread_mutex_lock(&lock);
    struct blocks *blocks = find(path);
    if (!blocks && io->client->size) {
        blocks = calloc(1, sizeof *blocks);
        strcpy(blocks->name, path);
        blocks->size = io->client->size;
        blocks->bytes = calloc(1, 2 * blocks->size);
        blocks->next = all_blocks;
        all_blocks = blocks;
    }
    int result = blocks && !(snapshot && strcmp(snapshot, "before")) ? 0 : -ENOENT;
    if (io->client->locked_out) result = -ESHUTDOWN;
    if (!result) {
        struct image *opened = calloc(1, sizeof *opened);
        *opened = (struct image){ io->client, blocks, snapshot != NULL, is_read_only, 0, 0, NULL, NULL, all_images };
        all_images = opened;
        blocks->opens++;
        *image = opened;
    }
    pthread_mutex_unlock(&lock);
    return result;
}
EXPORT int rbd_open(void *io, const char *name, void **image, const char *snapshot) { return open_as(io, name, image, snapshot, 0); }
EXPORT int rbd_open_read_only(void *io, const char *name, void **image, const char *snapshot) { return open_as(io, name, image, snapshot, 1); }
EXPORT int rbd_close(void *handle) {
    struct image *image = handle;
    pthread_mutex_lock(&lock);
    while (image->under_way) pthread_cond_wait(&ended, &lock);
    if (image->blocks->owner == image->client) image->blocks->owner = NULL;
    image->blocks->opens--;
    for (struct image **at = &all_images; *at; at = &(*at)->next)
        if (*at == image) {
            *at = image->next;
            break;
        }
    free(image);
    pthread_mutex_unlock(&lock);
    return 0;
}
EXPORT int rbd_get_size(void *image, uint64_t *size) {
    pthread_mutex_lock(&lock);
    *size = ((struct image *)image)->blocks->size;
    pthread_mutex_unlock(&lock);
    return 0;
}
EXPORT int rbd_get_stripe_unit(void *image, uint64_t *len) { (void)image; *len = 4 << 20; return 0; }

/* Tells every watcher of an image, on this thread. */
static void tell(struct blocks *blocks) {
    pthread_mutex_lock(&lock);
    for (struct image *at = all_images; at; at = at->next)
        if (at->blocks == blocks && at->watch) at->watch(at->watch_argument);
    pthread_mutex_unlock(&lock);
}
EXPORT int rbd_resize(void *handle, uint64_t size) {
    struct blocks *blocks = ((struct image *)handle)->blocks;
    if (size > 2 * blocks->size) return -ENOSPC;
    pthread_mutex_lock(&lock);
    blocks->size = size;
    pthread_mutex_unlock(&lock);
    tell(blocks);
    return 0;
}
EXPORT int rbd_update_watch(void *handle, uint64_t *number, on_update call, void *argument) {
    struct image *image = handle;
    if (image->is_read_only) return -EROFS;
    pthread_mutex_lock(&lock);
    image->watch = call;
    image->watch_argument = argument;
    image->blocks->watches++;
    *number = 1;
    pthread_mutex_unlock(&lock);
    return 0;
}
EXPORT int rbd_update_unwatch(void *handle, uint64_t number) {
    struct image *image = handle;
    (void)number;
    pthread_mutex_lock(&lock);
    image->watch = NULL;
    image->blocks->watches--;
    pthread_mutex_unlock(&lock);
    return 0;
}

EXPORT int rbd_aio_create_completion(void *argument, on_completion call, void **completion) {
    struct completion *made = calloc(1, sizeof *made);
    made->call = call;
    made->argument = argument;
    *completion = made;
    return 0;
}
EXPORT ssize_t rbd_aio_get_return_value(void *completion) { return ((struct completion *)completion)->result; }
EXPORT void rbd_aio_release(void *completion) { free(completion); }
EXPORT int rbd_aio_read(void *image, uint64_t offset, size_t len, char *data, void *completion) { return begin(READ, image, offset, len, data, completion); }
EXPORT int rbd_aio_write(void *image, uint64_t offset, size_t len, const char *data, void *completion) { return begin(WRITE, image, offset, len, (char *)data, completion); }
EXPORT int rbd_aio_write_zeroes(void *image, uint64_t offset, size_t len, void *completion, int flags, int more_flags) {
    return flags || more_flags ? -EINVAL : begin(ZERO, image, offset, len, NULL, completion);
}
EXPORT int rbd_aio_flush(void *image, void *completion) { return begin(FLUSH, image, 0, 0, NULL, completion); }

EXPORT int rbd_is_exclusive_lock_owner(void *handle, int *is_owner) {
    struct image *image = handle;
    pthread_mutex_lock(&lock);
    *is_owner = image->blocks->owner == image->client && !image->client->locked_out;
    int result = image->client->locked_out ? -ESHUTDOWN : 0;
    pthread_mutex_unlock(&lock);
    return result;
}
EXPORT int rbd_lock_acquire(void *handle, int mode) {
    struct image *image = handle;
    pthread_mutex_lock(&lock);
    int result = mode ? -EOPNOTSUPP : image->client->locked_out ? -ESHUTDOWN : 0;
    image->asked_for_lock = 1;
    if (!result && image->blocks->owner && image->blocks->owner != image->client) result = -EROFS;
    if (!result) image->blocks->owner = image->client;
    pthread_mutex_unlock(&lock);
    return result;
}
EXPORT int rbd_lock_release(void *handle) {
    struct image *image = handle;
    pthread_mutex_lock(&lock);
    while (image->under_way) pthread_cond_wait(&ended, &lock);
    int result = image->blocks->owner == image->client ? 0 : -EINVAL;
    if (!result) image->blocks->owner = NULL;
    pthread_mutex_unlock(&lock);
    return result;
}
EXPORT int rbd_lock_get_owners(void *handle, int *mode, char **owners, size_t *count) {
    struct image *image = handle;
    pthread_mutex_lock(&lock);
    struct client *owner = image->blocks->owner;
    int result = image->client->locked_out ? -ESHUTDOWN : owner ? 0 : -ENOENT;
    if (!result) {
        *mode = 0;
        *count = 1;
        owners[0] = malloc(64);
        snprintf(owners[0], 64, "127.0.0.1:0/%ld", owner->number);
    }
    pthread_mutex_unlock(&lock);
    return result;
}
EXPORT void rbd_lock_get_owners_cleanup(char **owners, size_t count) { while (count) free(owners[--count]); }
EXPORT int rbd_lock_break(void *handle, int mode, const char *name) {
    struct image *image = handle;
    char owned_by[64];
    pthread_mutex_lock(&lock);
    struct client *owner = image->blocks->owner;
    int result = mode ? -EOPNOTSUPP : image->client->locked_out ? -ESHUTDOWN : owner ? 0 : -ENOENT;
    if (!result) {
        snprintf(owned_by, sizeof owned_by, "127.0.0.1:0/%ld", owner->number);
        if (strcmp(owned_by, name)) result = -EBUSY;
    }
    if (!result) {
        if (image->client->locks_out) owner->locked_out = 1;
        image->blocks->owner = NULL;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

/* The end of the process. The real one's static objects go here: its threads crash if an image is open then. */
__attribute__((destructor)) static void destroy(void) {
    pthread_mutex_lock(&lock);
    if (all_images) abort();
    pthread_mutex_unlock(&lock);
}

/* --- for tests --- */

/* Operations on an image wait, until they do not. */
EXPORT void fake_hold(const char *name, int held) {
    pthread_mutex_lock(&lock);
    find(name)->held = held;
    pthread_cond_broadcast(&more);
    pthread_mutex_unlock(&lock);
}
/* So many operations to come end with an error. */
EXPORT void fake_fail(const char *name, int number, int count) {
    pthread_mutex_lock(&lock);
    find(name)->failure = number;
    find(name)->failures = count;
    pthread_mutex_unlock(&lock);
}
/* So many calls to come are refused. */
EXPORT void fake_refuse(const char *name, int number, int count) {
    pthread_mutex_lock(&lock);
    find(name)->refusal = number;
    find(name)->refusals = count;
    pthread_mutex_unlock(&lock);
}
/* Somebody else resizes it. */
EXPORT void fake_resize(const char *name, uint64_t size) {
    pthread_mutex_lock(&lock);
    struct blocks *blocks = find(name);
    blocks->size = size;
    pthread_mutex_unlock(&lock);
    tell(blocks);
}
/* What is counted: 0 open handles, 1 flushes, 2 watches, 3 ranges that were zeroed. */
EXPORT int fake_count(const char *name, int what) {
    pthread_mutex_lock(&lock);
    struct blocks *blocks = find(name);
    int counts[] = { blocks->opens, blocks->flushes, blocks->watches, blocks->zeroings };
    pthread_mutex_unlock(&lock);
    return counts[what];
}
