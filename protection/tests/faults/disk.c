/* A disk that fails, for tests: preloaded into a child process (LD_PRELOAD), it stands between the program, SQLite
 * included, and the C library's calls that write. Only files whose path begins with STKR_DISK are touched.
 *
 * STKR_DISK_FAULT  path of a file that says what fails now: "fsync ERRNO" or "write ERRNO", on files whose name ends with
 *                  a third word if there is one; "cut", "cut-write 1 NAME", "cut-fsync 1 NAME": the process dies at the
 *                  next call, or at the next of this kind on a file whose name ends so; or nothing.
 * STKR_DISK_LOG    path of a file that gets one line per call: "write NAME" or "fsync NAME".
 * STKR_DISK_CUT    the process dies by SIGKILL instead of making call number N (from 1), after noting it in the log.
 * STKR_DISK_POWER  what a power cut at that moment takes along: "none" (a crash only), "all" that was not synced, or a
 *                  number, the seed that decides for each write that was not synced.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What a write covered, until its file is synced. */
struct undo {
    struct undo *before;
    char *path;
    off_t offset, size;
    size_t length;
    unsigned char old[];
};

static struct undo *unsynced;
static long calls;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static ssize_t real_pwrite(int fd, const void *data, size_t length, off_t offset) {
    return syscall(SYS_pwrite64, fd, data, length, offset);
}

static ssize_t real_pread(int fd, void *data, size_t length, off_t offset) {
    return syscall(SYS_pread64, fd, data, length, offset);
}

static void note(const char *what, const char *path) {
    const char *log = getenv("STKR_DISK_LOG"), *slash = strrchr(path, '/');
    if (!log) return;
    char line[512];
    int length = snprintf(line, sizeof line, "%s %s\n", what, slash ? slash + 1 : path);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    syscall(SYS_write, fd, line, (size_t)length);
    close(fd);
}

/* The path of a descriptor, if it is one of ours. */
static int ours(int fd, char path[4096]) {
    const char *folder = getenv("STKR_DISK");
    char link[64];
    if (!folder) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 4095);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

/* The error that calls of this kind on this file end with now, or 0. */
static int fault(const char *kind, const char *path) {
    const char *file = getenv("STKR_DISK_FAULT");
    char text[64], word[64] = "", suffix[64] = "";
    int error = 0;
    if (!file) return 0;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDONLY);
    if (fd < 0) return 0;
    ssize_t length = real_pread(fd, text, sizeof text - 1, 0);
    close(fd);
    if (length <= 0) return 0;
    text[length] = 0;
    sscanf(text, "%63s %d %63s", word, &error, suffix);
    size_t end = strlen(suffix), all = strlen(path);
    if (all < end || strcmp(path + all - end, suffix) != 0) return 0;
    return strcmp(word, kind) == 0 ? (error ? error : 1) : 0;
}

static void power_cut(void) {
    const char *power = getenv("STKR_DISK_POWER");
    if (!power || strcmp(power, "none") == 0) return;
    int all = strcmp(power, "all") == 0;
    uint64_t random = strtoull(power, NULL, 10) * 2 + 1;
    for (struct undo *write = unsynced; write; write = write->before) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        if (!all && (random >> 63)) continue;
        int fd = (int)syscall(SYS_openat, AT_FDCWD, write->path, O_WRONLY);
        if (fd < 0) continue;
        real_pwrite(fd, write->old, write->length, write->offset);
        if (all) syscall(SYS_ftruncate, fd, write->size);
        close(fd);
    }
}

/* Counts a call, and ends the process if it is the one. Called with the lock held. */
static void count(const char *kind, const char *path) {
    const char *cut = getenv("STKR_DISK_CUT");
    calls++;
    const char *end = kind[0] == 'w' ? "cut-write" : "cut-fsync";
    if ((cut && calls == atol(cut)) || fault("cut", path) || fault(end, path)) {
        power_cut();
        note(end, path);
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    note(kind, path);
}

static void remember(int fd, const char *path, off_t offset, size_t length) {
    struct stat before;
    if (fstat(fd, &before) != 0) return;
    struct undo *write = calloc(1, sizeof *write + length);
    write->path = strdup(path);
    write->offset = offset;
    write->size = before.st_size;
    /* Bytes past the old end have no old content; a page that was never written reads as zeros. */
    ssize_t old = real_pread(fd, write->old, length, offset);
    (void)old;
    write->length = length;
    write->before = unsynced;
    unsynced = write;
}

static void forget(const char *path) {
    struct undo **at = &unsynced;
    while (*at) {
        struct undo *write = *at;
        if (strcmp(write->path, path) == 0) {
            *at = write->before;
            free(write->path);
            free(write);
        } else {
            at = &write->before;
        }
    }
}

static ssize_t do_write(int fd, const void *data, size_t length, off_t offset) {
    char path[4096];
    if (!ours(fd, path)) return real_pwrite(fd, data, length, offset);
    pthread_mutex_lock(&lock);
    ssize_t result = -1;
    int error = fault("write", path);
    count("write", path);
    if (error) {
        errno = error;
    } else {
        remember(fd, path, offset, length);
        result = real_pwrite(fd, data, length, offset);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static int do_sync(int fd, long number) {
    char path[4096];
    if (!ours(fd, path)) return (int)syscall(number, fd);
    pthread_mutex_lock(&lock);
    int result = -1, error = fault("fsync", path);
    count("fsync", path);
    if (error) {
        errno = error;
    } else {
        result = (int)syscall(number, fd);
        if (result == 0) forget(path);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return do_write(fd, data, length, offset); }
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) { return do_write(fd, data, length, offset); }
int fsync(int fd) { return do_sync(fd, SYS_fsync); }
int fdatasync(int fd) { return do_sync(fd, SYS_fdatasync); }

ssize_t write(int fd, const void *data, size_t length) {
    char path[4096];
    if (!ours(fd, path)) return syscall(SYS_write, fd, data, length);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t result = do_write(fd, data, length, offset);
    if (result > 0) lseek(fd, offset + result, SEEK_SET);
    return result;
}

/* SQLite cuts its log after a checkpoint, which has synced everything that was in it; what is cut needs no undoing. */
int ftruncate(int fd, off_t length) {
    char path[4096];
    if (ours(fd, path)) {
        pthread_mutex_lock(&lock);
        int error = fault("write", path);
        count("write", path);
        if (!error) forget(path);
        pthread_mutex_unlock(&lock);
        if (error) {
            errno = error;
            return -1;
        }
    }
    return (int)syscall(SYS_ftruncate, fd, length);
}
int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }
