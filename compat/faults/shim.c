/*
 * Stands between a program and its files (LD_PRELOAD): makes chosen calls fail, slow or lie, moves the wall clock, and
 * keeps a journal of what is not synced, so that whoever holds the journal can take it away as a power loss would.
 *
 * It is driven by a file that both sides map (`struct control`; `ottla_compat/faults/shim.py` has the same layout). Only
 * files below the roots named there are looked at. It counts every call it saw: a run whose counts are zero has shown
 * nothing. A call that changes such a file in a way the journal cannot undo is counted as unsupported.
 *
 * Invariants: a journal record is complete before the change it can undo is made; a record that says something was
 * synced comes after the sync has succeeded.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x314d4948534c544fULL /* "OTLSHIM1" */
#define ROOTS 4
#define ROOT_BYTES 256
#define RULES 8
#define DESCRIPTORS 65536
#define MAX_PARTS 1024
#define LIE (-1)

enum operation { OPEN, READ, WRITE, SET_LEN, SYNC, SYNC_DIR, RENAME, REMOVE, MAKE_DIR, CLOCK, OPERATIONS };

struct rule {
    uint32_t armed;
    /* A bit per operation. */
    uint32_t operations;
    /* 0: the call is only delayed. LIE: a sync that does nothing and says it did. */
    int32_t error;
    uint32_t delay_ms;
    uint64_t skip;
    uint64_t count;
    uint64_t matched;
    uint64_t struck;
    /* A failing write moves half of its bytes first. */
    uint32_t partial;
    uint32_t reserved;
    /* A part of the path; empty matches all. */
    char path[200];
};

struct control {
    uint64_t magic;
    uint32_t attached;
    uint32_t journal_on;
    uint64_t sequence;
    uint64_t journal_end;
    uint64_t journal_capacity;
    int64_t clock_offset_ns;
    uint64_t clock_moved;
    uint64_t unsupported;
    uint64_t seen[16];
    uint64_t struck[16];
    char roots[ROOTS][ROOT_BYTES];
    struct rule rules[RULES];
};

enum kind {
    WROTE = 1,       /* a: position, b: bytes, c: length before; data: what was there */
    LENGTH_SET,      /* a: new length, c: length before; data: what was cut off */
    SYNCED,          /* a: sequence when the sync began */
    SYNC_FAILED,     /* a: the same */
    MADE,            /* name */
    RENAMED,         /* name, name2 in directory2; a: 1 if what was replaced is kept under this sequence */
    REMOVED,         /* name; kept under this sequence */
    DIRECTORY_SYNCED /* a: sequence when the sync began */
};

struct record {
    uint32_t bytes; /* of all of it */
    uint32_t kind;
    uint64_t sequence;
    uint64_t inode;     /* of the file, or of the directory whose name this is */
    uint64_t directory; /* of the second name; for MADE, REMOVED and RENAMED: the inode that is named */
    uint64_t directory2;
    int64_t a, b, c;
    uint32_t name_bytes, name2_bytes;
};

struct file {
    uint64_t inode;
    uint64_t device;
    int is_directory;
    char path[];
};

static struct control *control;
static char *journal;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct file *files[DESCRIPTORS];

#define REAL(name) static __typeof__(name) *real_##name
REAL(open);
REAL(openat);
REAL(close);
REAL(closedir);
REAL(fcntl);
REAL(read);
REAL(pread);
REAL(preadv);
REAL(preadv2);
REAL(sendfile);
REAL(write);
REAL(writev);
REAL(pwrite);
REAL(pwritev);
REAL(pwritev2);
REAL(ftruncate);
REAL(fallocate);
REAL(fsync);
REAL(fdatasync);
REAL(syncfs);
REAL(rename);
REAL(renameat);
REAL(unlink);
REAL(unlinkat);
REAL(rmdir);
REAL(mkdir);
REAL(clock_gettime);
REAL(gettimeofday);
REAL(time);
#undef REAL

static void die(const char *what) {
    fprintf(stderr, "fault shim: %s: %s\n", what, strerror(errno));
    _exit(97);
}

static void *map(const char *variable, size_t bytes) {
    const char *path = getenv(variable);
    if (path == NULL) {
        die(variable);
    }
    int fd = real_open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        die(path);
    }
    void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) {
        die(path);
    }
    real_close(fd);
    return mapped;
}

static void initialize(void) {
#define FIND(name)                                          \
    do {                                                    \
        real_##name = dlsym(RTLD_NEXT, #name);              \
        if (real_##name == NULL) {                          \
            die("no " #name);                               \
        }                                                   \
    } while (0)
    FIND(open);
    FIND(openat);
    FIND(close);
    FIND(closedir);
    FIND(fcntl);
    FIND(read);
    FIND(pread);
    FIND(preadv);
    FIND(preadv2);
    FIND(sendfile);
    FIND(write);
    FIND(writev);
    FIND(pwrite);
    FIND(pwritev);
    FIND(pwritev2);
    FIND(ftruncate);
    FIND(fallocate);
    FIND(fsync);
    FIND(fdatasync);
    FIND(syncfs);
    FIND(rename);
    FIND(renameat);
    FIND(unlink);
    FIND(unlinkat);
    FIND(rmdir);
    FIND(mkdir);
    FIND(clock_gettime);
    FIND(gettimeofday);
    FIND(time);
#undef FIND
    control = map("OTTLA_FAULTS_CONTROL", sizeof(struct control));
    if (control->magic != MAGIC) {
        errno = EINVAL;
        die("the control file is of another version");
    }
    if (control->journal_on) {
        journal = map("OTTLA_FAULTS_JOURNAL", control->journal_capacity);
    }
    __atomic_add_fetch(&control->attached, 1, __ATOMIC_SEQ_CST);
}

static void ready(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, initialize);
}

__attribute__((constructor)) static void loaded(void) { ready(); }

static void lock(void) { pthread_mutex_lock(&mutex); }

static void unlock(void) { pthread_mutex_unlock(&mutex); }

static int is_watched(const char *path) {
    for (int index = 0; index < ROOTS; index++) {
        const char *root = control->roots[index];
        size_t length = strnlen(root, ROOT_BYTES);
        if (length > 0 && strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0)) {
            return 1;
        }
    }
    return 0;
}

/* The tracked file of a descriptor. Descriptors that were closed behind our back may be something else by now. */
static struct file *tracked(int fd) {
    if (fd < 0 || fd >= DESCRIPTORS || files[fd] == NULL) {
        return NULL;
    }
    struct stat now;
    if (fstat(fd, &now) != 0 || now.st_ino != files[fd]->inode || now.st_dev != files[fd]->device) {
        return NULL;
    }
    return files[fd];
}

static void forget(int fd) {
    if (fd >= 0 && fd < DESCRIPTORS) {
        free(files[fd]);
        files[fd] = NULL;
    }
}

static void track(int fd, const char *path) {
    struct stat found;
    forget(fd);
    if (fd < 0 || fstat(fd, &found) != 0) {
        return;
    }
    if (fd >= DESCRIPTORS) {
        control->unsupported++;
        return;
    }
    struct file *file = malloc(sizeof(struct file) + strlen(path) + 1);
    if (file == NULL) {
        die("no memory");
    }
    file->inode = found.st_ino;
    file->device = found.st_dev;
    file->is_directory = S_ISDIR(found.st_mode);
    strcpy(file->path, path);
    files[fd] = file;
}

/* The full path of a name below a descriptor; 0 if it is none of ours. */
static int resolve(int directory, const char *path, char *full) {
    if (path[0] == '/' || directory == AT_FDCWD) {
        if (path[0] != '/') {
            return 0; /* The roots are absolute, and so is what is opened below them. */
        }
        return snprintf(full, PATH_MAX, "%s", path) < PATH_MAX && is_watched(full);
    }
    struct file *file = tracked(directory);
    return file != NULL && snprintf(full, PATH_MAX, "%s/%s", file->path, path) < PATH_MAX;
}

/*
 * Counts the call, and says how it fails: 0 if it does not. Waits out a delay without the lock, which the caller holds.
 */
static int strike(enum operation operation, const char *path, int *partial) {
    control->seen[operation]++;
    int error = 0;
    uint32_t delay_ms = 0;
    for (int index = 0; index < RULES; index++) {
        struct rule *rule = &control->rules[index];
        if (!__atomic_load_n(&rule->armed, __ATOMIC_ACQUIRE) || !(rule->operations & (1u << operation)) ||
            strstr(path, rule->path) == NULL) {
            continue;
        }
        if (rule->matched++ < rule->skip || rule->struck >= rule->count || error != 0) {
            continue;
        }
        rule->struck++;
        control->struck[operation]++;
        error = rule->error;
        delay_ms += rule->delay_ms;
        if (partial != NULL && rule->partial) {
            *partial = 1;
        }
    }
    if (delay_ms > 0) {
        unlock();
        struct timespec pause = {delay_ms / 1000, (delay_ms % 1000) * 1000000L};
        while (nanosleep(&pause, &pause) != 0) {
        }
        lock();
    }
    return error;
}

static int failed(int error) {
    errno = error;
    return -1;
}

/* Reserves a record with room for names and data; NULL with the journal off. */
static struct record *begin_record(enum kind kind, const char *name, const char *name2, uint64_t data_bytes) {
    control->sequence++;
    if (!control->journal_on) {
        return NULL;
    }
    size_t name_bytes = name ? strlen(name) : 0, name2_bytes = name2 ? strlen(name2) : 0;
    uint64_t bytes = (sizeof(struct record) + name_bytes + name2_bytes + data_bytes + 7) / 8 * 8;
    if (bytes > UINT32_MAX || control->journal_end + bytes > control->journal_capacity) {
        errno = ENOBUFS;
        die("the journal is full");
    }
    struct record *record = (struct record *)(journal + control->journal_end);
    memset(record, 0, sizeof *record);
    record->bytes = bytes;
    record->kind = kind;
    record->sequence = control->sequence;
    record->name_bytes = name_bytes;
    record->name2_bytes = name2_bytes;
    char *text = (char *)(record + 1);
    memcpy(text, name ? name : "", name_bytes);
    memcpy(text + name_bytes, name2 ? name2 : "", name2_bytes);
    return record;
}

static void *data_of(struct record *record) {
    return (char *)(record + 1) + record->name_bytes + record->name2_bytes;
}

static void end_record(struct record *record) {
    if (record != NULL) {
        __atomic_store_n(&control->journal_end, control->journal_end + record->bytes, __ATOMIC_SEQ_CST);
    }
}

static void save(struct record *record, int fd, int64_t position, int64_t bytes) {
    char *target = data_of(record);
    while (bytes > 0) {
        ssize_t got = real_pread(fd, target, bytes, position);
        if (got <= 0) {
            /* Opened for writing only: what is there cannot be brought back. */
            control->unsupported++;
            return;
        }
        target += got;
        position += got;
        bytes -= got;
    }
}

static void journal_write(int fd, struct file *file, int64_t position, int64_t bytes) {
    struct stat before;
    if (fstat(fd, &before) != 0) {
        return;
    }
    int64_t there = before.st_size - position;
    there = there < 0 ? 0 : there > bytes ? bytes : there;
    struct record *record = begin_record(WROTE, NULL, NULL, there);
    if (record == NULL) {
        return;
    }
    record->inode = file->inode;
    record->a = position;
    record->b = bytes;
    record->c = before.st_size;
    save(record, fd, position, there);
    end_record(record);
}

static void journal_length(int fd, struct file *file, int64_t length) {
    struct stat before;
    if (fstat(fd, &before) != 0 || before.st_size == length) {
        return;
    }
    int64_t lost = before.st_size > length ? before.st_size - length : 0;
    struct record *record = begin_record(LENGTH_SET, NULL, NULL, lost);
    if (record == NULL) {
        return;
    }
    record->inode = file->inode;
    record->a = length;
    record->c = before.st_size;
    save(record, fd, length, lost);
    end_record(record);
}

static void journal_sync(enum kind kind, uint64_t inode, uint64_t begun) {
    struct record *record = begin_record(kind, NULL, NULL, 0);
    if (record != NULL) {
        record->inode = inode;
        record->a = begun;
        end_record(record);
    }
}

/* Splits a path; returns the inode of the directory, 0 if it is none of ours. */
static uint64_t directory_of(const char *path, const char **name) {
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    struct stat found;
    if (slash == NULL || slash == path) {
        return 0;
    }
    *name = slash + 1;
    snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
    return is_watched(parent) && stat(parent, &found) == 0 ? found.st_ino : 0;
}

/* Where removed files are kept until their removal is durable: beside the root, on the same file system. */
static void keep_path(const char *path, char *kept) {
    for (int index = 0; index < ROOTS; index++) {
        const char *root = control->roots[index];
        size_t length = strnlen(root, ROOT_BYTES);
        if (length > 0 && strncmp(path, root, length) == 0 && path[length] == '/') {
            snprintf(kept, PATH_MAX, "%s.removed/%llu", root, (unsigned long long)(control->sequence));
            return;
        }
    }
    errno = EINVAL;
    die("a removed path is below no root");
}

static void journal_made(const char *path) {
    const char *name = "";
    uint64_t directory = directory_of(path, &name);
    /* The name of a root is somebody else's: nobody here sees it synced. */
    if (directory == 0) {
        return;
    }
    struct record *record = begin_record(MADE, name, NULL, 0);
    if (record != NULL) {
        record->inode = directory;
        end_record(record);
    }
}

/* Removes a name: with the journal on, what it names moves aside. */
static int remove_name(const char *path, int is_directory) {
    struct stat found;
    if (!control->journal_on) {
        return is_directory ? real_rmdir(path) : real_unlink(path);
    }
    if (lstat(path, &found) != 0) {
        return -1;
    }
    if (is_directory != !!S_ISDIR(found.st_mode)) {
        return failed(is_directory ? ENOTDIR : EISDIR);
    }
    if (is_directory) {
        DIR *listed = opendir(path);
        int entries = 0;
        while (listed != NULL && readdir(listed) != NULL) {
            entries++;
        }
        if (listed != NULL) {
            real_closedir(listed);
        }
        if (entries > 2) {
            return failed(ENOTEMPTY);
        }
    }
    const char *name = "";
    uint64_t directory = directory_of(path, &name);
    struct record *record = begin_record(REMOVED, name, NULL, 0);
    char kept[PATH_MAX];
    keep_path(path, kept);
    record->inode = directory;
    record->directory = found.st_ino;
    end_record(record);
    return real_rename(path, kept);
}

static int rename_path(const char *from, const char *to) {
    struct stat source, replaced;
    if (!control->journal_on || lstat(from, &source) != 0) {
        return real_rename(from, to);
    }
    const char *name = "", *name2 = "";
    uint64_t directory = directory_of(from, &name), directory2 = directory_of(to, &name2);
    struct record *record = begin_record(RENAMED, name, name2, 0);
    record->inode = directory;
    record->directory = source.st_ino;
    record->directory2 = directory2;
    if (lstat(to, &replaced) == 0 && replaced.st_ino != source.st_ino) {
        char kept[PATH_MAX];
        keep_path(to, kept);
        if (S_ISDIR(replaced.st_mode)) {
            control->unsupported++;
        } else if (link(to, kept) != 0) {
            die("cannot keep what a rename replaces");
        }
        record->a = 1;
    }
    end_record(record);
    return real_rename(from, to);
}

/* Opening */

static int open_path(int directory, const char *path, int flags, mode_t mode) {
    ready();
    char full[PATH_MAX];
    lock();
    int ours = resolve(directory, path, full);
    int error = ours ? strike(OPEN, full, NULL) : 0;
    if (error != 0) {
        unlock();
        return failed(error);
    }
    struct stat found;
    int exists = ours && lstat(full, &found) == 0;
    if (ours && (flags & O_CREAT) && !exists) {
        journal_made(full);
    }
    if (ours && (flags & O_TRUNC) && exists && found.st_size > 0) {
        control->unsupported++;
    }
    int fd = real_openat(directory, path, flags, mode);
    int kept_errno = errno;
    if (fd >= 0 && ours) {
        track(fd, full);
    } else {
        forget(fd);
    }
    unlock();
    errno = kept_errno;
    return fd;
}

#define MODE_OF(flags)                                   \
    mode_t mode = 0;                                     \
    if ((flags) & (O_CREAT | O_TMPFILE)) {               \
        va_list arguments;                               \
        va_start(arguments, flags);                      \
        mode = va_arg(arguments, mode_t);                \
        va_end(arguments);                               \
    }

int open(const char *path, int flags, ...) {
    MODE_OF(flags)
    return open_path(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE_OF(flags)
    return open_path(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int openat(int directory, const char *path, int flags, ...) {
    MODE_OF(flags)
    return open_path(directory, path, flags, mode);
}

int openat64(int directory, const char *path, int flags, ...) {
    MODE_OF(flags)
    return open_path(directory, path, flags | O_LARGEFILE, mode);
}

int close(int fd) {
    ready();
    lock();
    forget(fd);
    unlock();
    return real_close(fd);
}

int closedir(DIR *directory) {
    ready();
    lock();
    forget(dirfd(directory));
    unlock();
    return real_closedir(directory);
}

static int duplicate(int fd, int command, long argument) {
    ready();
    int result = real_fcntl(fd, command, argument);
    if (result >= 0 && (command == F_DUPFD || command == F_DUPFD_CLOEXEC)) {
        lock();
        struct file *file = tracked(fd);
        if (file != NULL) {
            track(result, file->path);
        } else {
            forget(result);
        }
        unlock();
    }
    return result;
}

int fcntl(int fd, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    return duplicate(fd, command, argument);
}

int fcntl64(int fd, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    return duplicate(fd, command, argument);
}

/* Reading */

static int read_fails(int fd) {
    ready();
    if (fd < 0 || fd >= DESCRIPTORS || files[fd] == NULL) {
        return 0;
    }
    lock();
    struct file *file = tracked(fd);
    int error = file != NULL && !file->is_directory ? strike(READ, file->path, NULL) : 0;
    unlock();
    return error;
}

#define READING(fd, call)           \
    int error = read_fails(fd);     \
    if (error != 0) {               \
        return failed(error);       \
    }                               \
    return call;

ssize_t read(int fd, void *buffer, size_t bytes) { READING(fd, real_read(fd, buffer, bytes)) }

ssize_t pread(int fd, void *buffer, size_t bytes, off_t position) {
    READING(fd, real_pread(fd, buffer, bytes, position))
}

ssize_t pread64(int fd, void *buffer, size_t bytes, off64_t position) {
    READING(fd, real_pread(fd, buffer, bytes, position))
}

ssize_t preadv(int fd, const struct iovec *parts, int count, off_t position) {
    READING(fd, real_preadv(fd, parts, count, position))
}

ssize_t preadv64(int fd, const struct iovec *parts, int count, off64_t position) {
    READING(fd, real_preadv(fd, parts, count, position))
}

ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t position, int flags) {
    READING(fd, real_preadv2(fd, parts, count, position, flags))
}

ssize_t preadv64v2(int fd, const struct iovec *parts, int count, off64_t position, int flags) {
    READING(fd, real_preadv2(fd, parts, count, position, flags))
}

ssize_t sendfile(int out, int in, off_t *position, size_t bytes) {
    READING(in, real_sendfile(out, in, position, bytes))
}

ssize_t sendfile64(int out, int in, off64_t *position, size_t bytes) {
    READING(in, real_sendfile(out, in, position, bytes))
}

/* Writing */

/* Writes at a position, or with -1 where the descriptor stands. */
static ssize_t write_parts(int fd, const struct iovec *parts, int count, int64_t position) {
    ready();
    lock();
    struct file *file = tracked(fd);
    if (file == NULL) {
        unlock();
        return position < 0 ? real_writev(fd, parts, count) : real_pwritev(fd, parts, count, position);
    }
    int partial = 0;
    int error = strike(WRITE, file->path, &partial);
    /* A delay has let go of the lock. */
    file = tracked(fd);
    if (file == NULL) {
        unlock();
        return failed(EBADF);
    }
    if (position < 0) {
        int flags = real_fcntl(fd, F_GETFL);
        struct stat found;
        if (flags & O_APPEND && fstat(fd, &found) == 0) {
            position = found.st_size;
        } else {
            position = lseek(fd, 0, SEEK_CUR);
        }
        if (error == 0) {
            int64_t bytes = 0;
            for (int index = 0; index < count; index++) {
                bytes += parts[index].iov_len;
            }
            journal_write(fd, file, position, bytes);
            ssize_t done = real_writev(fd, parts, count);
            unlock();
            return done;
        }
        unlock();
        return failed(error);
    }
    struct iovec half[MAX_PARTS];
    if (error != 0 && partial && count <= MAX_PARTS) {
        int64_t bytes = 0;
        for (int index = 0; index < count; index++) {
            bytes += parts[index].iov_len;
        }
        int64_t left = bytes / 2;
        int used = 0;
        for (; used < count && left > 0; used++) {
            half[used] = parts[used];
            if ((int64_t)half[used].iov_len > left) {
                half[used].iov_len = left;
            }
            left -= half[used].iov_len;
        }
        journal_write(fd, file, position, bytes / 2);
        if (used > 0 && real_pwritev(fd, half, used, position) < 0) {
            error = errno;
        }
        unlock();
        return failed(error);
    }
    if (error != 0) {
        unlock();
        return failed(error);
    }
    int64_t bytes = 0;
    for (int index = 0; index < count; index++) {
        bytes += parts[index].iov_len;
    }
    journal_write(fd, file, position, bytes);
    ssize_t done = real_pwritev(fd, parts, count, position);
    int kept_errno = errno;
    unlock();
    errno = kept_errno;
    return done;
}

ssize_t write(int fd, const void *buffer, size_t bytes) {
    if (fd < 0 || fd >= DESCRIPTORS || files[fd] == NULL) {
        ready();
        return real_write(fd, buffer, bytes);
    }
    struct iovec part = {(void *)buffer, bytes};
    return write_parts(fd, &part, 1, -1);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (fd < 0 || fd >= DESCRIPTORS || files[fd] == NULL) {
        ready();
        return real_writev(fd, parts, count);
    }
    return write_parts(fd, parts, count, -1);
}

ssize_t pwrite(int fd, const void *buffer, size_t bytes, off_t position) {
    struct iovec part = {(void *)buffer, bytes};
    return write_parts(fd, &part, 1, position);
}

ssize_t pwrite64(int fd, const void *buffer, size_t bytes, off64_t position) {
    return pwrite(fd, buffer, bytes, position);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t position) {
    return write_parts(fd, parts, count, position);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t position) {
    return write_parts(fd, parts, count, position);
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t position, int flags) {
    (void)flags;
    return write_parts(fd, parts, count, position);
}

ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t position, int flags) {
    return pwritev2(fd, parts, count, position, flags);
}

static int set_length(int fd, int64_t length) {
    ready();
    lock();
    struct file *file = tracked(fd);
    if (file != NULL) {
        int error = strike(SET_LEN, file->path, NULL);
        file = tracked(fd);
        if (error != 0 || file == NULL) {
            unlock();
            return failed(error != 0 ? error : EBADF);
        }
        journal_length(fd, file, length);
    }
    int result = real_ftruncate(fd, length);
    int kept_errno = errno;
    unlock();
    errno = kept_errno;
    return result;
}

int ftruncate(int fd, off_t length) { return set_length(fd, length); }

int ftruncate64(int fd, off64_t length) { return set_length(fd, length); }

static int allocate(int fd, int mode, int64_t position, int64_t bytes) {
    ready();
    lock();
    struct file *file = tracked(fd);
    if (file != NULL) {
        int error = strike(SET_LEN, file->path, NULL);
        file = tracked(fd);
        if (error != 0 || file == NULL) {
            unlock();
            return failed(error != 0 ? error : EBADF);
        }
        struct stat before;
        if (mode == 0 && fstat(fd, &before) == 0 && position + bytes > before.st_size) {
            journal_length(fd, file, position + bytes);
        } else if (mode & ~FALLOC_FL_KEEP_SIZE) {
            control->unsupported++;
        }
    }
    int result = real_fallocate(fd, mode, position, bytes);
    int kept_errno = errno;
    unlock();
    errno = kept_errno;
    return result;
}

int fallocate(int fd, int mode, off_t position, off_t bytes) { return allocate(fd, mode, position, bytes); }

int fallocate64(int fd, int mode, off64_t position, off64_t bytes) { return allocate(fd, mode, position, bytes); }

/* Syncing */

static int sync_file(int fd, int (*call)(int)) {
    ready();
    lock();
    struct file *file = tracked(fd);
    if (file == NULL) {
        unlock();
        return call(fd);
    }
    uint64_t inode = file->inode;
    int is_directory = file->is_directory;
    uint64_t begun = control->sequence;
    int error = strike(is_directory ? SYNC_DIR : SYNC, file->path, NULL);
    if (error == LIE) {
        unlock();
        return 0;
    }
    if (error != 0) {
        if (!is_directory) {
            journal_sync(SYNC_FAILED, inode, begun);
        }
        unlock();
        return failed(error);
    }
    unlock();
    int result = call(fd);
    if (result == 0) {
        lock();
        journal_sync(is_directory ? DIRECTORY_SYNCED : SYNCED, inode, begun);
        unlock();
    }
    return result;
}

int fsync(int fd) {
    ready();
    return sync_file(fd, real_fsync);
}

int fdatasync(int fd) {
    ready();
    return sync_file(fd, real_fdatasync);
}

/* One call for everything: every inode, and every directory. */
int syncfs(int fd) {
    ready();
    lock();
    struct file *file = tracked(fd);
    uint64_t begun = control->sequence;
    int ours = file != NULL;
    int error = ours ? strike(SYNC, file->path, NULL) : 0;
    if (error == LIE) {
        unlock();
        return 0;
    }
    if (error != 0) {
        journal_sync(SYNC_FAILED, 0, begun);
        unlock();
        return failed(error);
    }
    unlock();
    int result = real_syncfs(fd);
    if (result == 0 && ours) {
        lock();
        journal_sync(SYNCED, 0, begun);
        journal_sync(DIRECTORY_SYNCED, 0, begun);
        unlock();
    }
    return result;
}

/* Names */

static int rename_at(int from_directory, const char *from, int to_directory, const char *to) {
    ready();
    char full_from[PATH_MAX], full_to[PATH_MAX];
    lock();
    int ours = resolve(from_directory, from, full_from) && resolve(to_directory, to, full_to);
    int error = ours ? strike(RENAME, full_from, NULL) : 0;
    int result = error != 0 ? failed(error)
                 : ours     ? rename_path(full_from, full_to)
                            : real_renameat(from_directory, from, to_directory, to);
    int kept_errno = errno;
    unlock();
    errno = kept_errno;
    return result;
}

int rename(const char *from, const char *to) { return rename_at(AT_FDCWD, from, AT_FDCWD, to); }

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    return rename_at(from_directory, from, to_directory, to);
}

int unlinkat(int directory, const char *path, int flags) {
    ready();
    char full[PATH_MAX];
    lock();
    int ours = resolve(directory, path, full);
    int error = ours ? strike(REMOVE, full, NULL) : 0;
    int result = error != 0 ? failed(error)
                 : ours     ? remove_name(full, (flags & AT_REMOVEDIR) != 0)
                            : real_unlinkat(directory, path, flags);
    int kept_errno = errno;
    unlock();
    errno = kept_errno;
    return result;
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdir(const char *path, mode_t mode) {
    ready();
    char full[PATH_MAX];
    lock();
    int ours = resolve(AT_FDCWD, path, full);
    int error = ours ? strike(MAKE_DIR, full, NULL) : 0;
    struct stat found;
    if (error == 0 && ours && lstat(full, &found) != 0) {
        journal_made(full);
    }
    int result = error != 0 ? failed(error) : real_mkdir(path, mode);
    int kept_errno = errno;
    unlock();
    errno = kept_errno;
    return result;
}

/* The wall clock */

static int64_t clock_offset(void) {
    int64_t offset = __atomic_load_n(&control->clock_offset_ns, __ATOMIC_RELAXED);
    __atomic_add_fetch(&control->seen[CLOCK], 1, __ATOMIC_RELAXED);
    if (offset != 0) {
        __atomic_add_fetch(&control->clock_moved, 1, __ATOMIC_RELAXED);
    }
    return offset;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    ready();
    int result = real_clock_gettime(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = now->tv_sec * 1000000000LL + now->tv_nsec + clock_offset();
        now->tv_sec = ns / 1000000000LL;
        now->tv_nsec = ns % 1000000000LL;
        if (now->tv_nsec < 0) {
            now->tv_nsec += 1000000000LL;
            now->tv_sec -= 1;
        }
    }
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    (void)zone;
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now != NULL) {
        *now = precise.tv_sec;
    }
    return precise.tv_sec;
}
