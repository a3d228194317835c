/* The C library's calls that a camera's client makes, answered for our devices, passed on else. */
#define _GNU_SOURCE
#include "virtual_camera.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define MOST_NODES 64
#define VIDEO_MAJOR 81
#define MOST_WAIT (SECOND / 50) /* so a changed control file is seen soon */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct node nodes[MOST_NODES];
static int open_nodes;
static struct { int fd; off_t start; } exported[MOST_NODES];
static int exports;

/* The C library's own function, looked up once. */
#define NEXT(name, type)                                                                           \
    static __typeof__(type) *next;                                                                 \
    if (!next) next = (__typeof__(type) *)dlsym(RTLD_NEXT, name)

static int answer(int result) {
    if (result >= 0) return result;
    errno = -result;
    return -1;
}

/* After a fork the child has a camera of its own, as it were: it may close what it was given. */
static void in_child(void) {
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    lock = fresh;
    for (int n = 0; n < MOST_NODES; n++) nodes[n].pid = getpid();
}

__attribute__((constructor)) static void begin(void) {
    for (int n = 0; n < MOST_NODES; n++) nodes[n].fd = -1;
    pthread_atfork(NULL, NULL, in_child);
}

static struct node *node_of(int fd) {
    if (fd < 0 || !open_nodes) return NULL;
    for (int n = 0; n < MOST_NODES; n++)
        if (nodes[n].fd == fd) return &nodes[n];
    return NULL;
}

/* ---- names ---- */

struct name {
    int camera, number;
    bool metadata;
};

/* -1: not ours; 0: ours, but not there now; 1: there. */
static int look_up(const char *path, struct name *name) {
    static const char by_id[] = "/dev/v4l/by-id/usb-Virtual_Camera_";
    if (!path || strncmp(path, "/dev/v", 6)) return -1;
    settings_load();
    int number = -1, wanted = -1, end = 0;
    if (!strncmp(path, by_id, sizeof by_id - 1))
        wanted = atoi(path + sizeof by_id - 1);
    else if (sscanf(path, "/dev/video%d%n", &number, &end) != 1 || path[end])
        return -1;
    int cameras = (int)setting_number(0, "cameras", 1);
    for (int n = 0; n < cameras; n++) {
        int own = (int)setting_number(n, "number", n), data = (int)setting_number(n, "metadata", -1);
        if (wanted != n && own != number && data != number) continue;
        *name = (struct name){n, wanted == n ? own : number, wanted != n && own != number};
        return setting_number(n, "present", 1) >= 1;
    }
    /* The first few numbers are ours alone, so that a machine's own cameras do not mix in. */
    return wanted >= 0 || (number >= 0 && number < 16) ? 0 : -1;
}

static void tell_stat(int number, struct stat *to) {
    memset(to, 0, sizeof *to);
    to->st_mode = S_IFCHR | 0660;
    to->st_rdev = makedev(VIDEO_MAJOR, number);
    to->st_nlink = 1;
}

/* 1: not ours. Also sees through /proc/PID/fd/N, as a search for who holds a camera does. */
static int stat_path(const char *path, struct stat *to) {
    struct name name;
    char target[64];
    if (path && !strncmp(path, "/proc/", 6)) {
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length > 0 ? length : 0] = 0;
        int number;
        if (sscanf(target, "/memfd:virtual-camera-%d", &number) != 1) return 1;
        tell_stat(number, to);
        return 0;
    }
    pthread_mutex_lock(&lock);
    int there = look_up(path, &name);
    pthread_mutex_unlock(&lock);
    if (there < 0) return 1;
    if (!there) return answer(-ENOENT);
    tell_stat(name.number, to);
    return 0;
}

static int stat_fd(int fd, struct stat *to) {
    pthread_mutex_lock(&lock);
    const struct node *node = node_of(fd);
    if (node) tell_stat(node->number, to);
    pthread_mutex_unlock(&lock);
    return node ? 0 : 1;
}

#define STAT(function, parameters, arguments, path, to)                                            \
    int function parameters {                                                                      \
        NEXT(#function, int parameters);                                                           \
        int ours = stat_path(path, (struct stat *)to);                                             \
        return ours <= 0 ? ours : next arguments;                                                  \
    }
STAT(stat, (const char *path, struct stat *to), (path, to), path, to)
STAT(stat64, (const char *path, struct stat64 *to), (path, to), path, to)
STAT(lstat, (const char *path, struct stat *to), (path, to), path, to)
STAT(lstat64, (const char *path, struct stat64 *to), (path, to), path, to)
STAT(__xstat, (int v, const char *path, struct stat *to), (v, path, to), path, to)
STAT(__xstat64, (int v, const char *path, struct stat64 *to), (v, path, to), path, to)
STAT(fstatat, (int at, const char *path, struct stat *to, int f), (at, path, to, f), path, to)
STAT(fstatat64, (int at, const char *path, struct stat64 *to, int f), (at, path, to, f), path, to)

#define FSTAT(function, parameters, arguments)                                                     \
    int function parameters {                                                                      \
        NEXT(#function, int parameters);                                                           \
        int ours = stat_fd(fd, (struct stat *)to);                                                 \
        return ours <= 0 ? ours : next arguments;                                                  \
    }
FSTAT(fstat, (int fd, struct stat *to), (fd, to))
FSTAT(fstat64, (int fd, struct stat64 *to), (fd, to))
FSTAT(__fxstat, (int v, int fd, struct stat *to), (v, fd, to))
FSTAT(__fxstat64, (int v, int fd, struct stat64 *to), (v, fd, to))

int access(const char *path, int mode) {
    NEXT("access", int(const char *, int));
    struct stat about;
    int ours = stat_path(path, &about);
    return ours <= 0 ? ours : next(path, mode);
}

/* ---- open and close ---- */

static int open_node(const struct name *name, int flags) {
    double slow = setting_number(name->camera, "slow_open", 0);
    int refused = (int)setting_number(name->camera, "open_error", 0);
    if (slow > 0) {
        pthread_mutex_unlock(&lock);
        usleep((useconds_t)(slow * 1e6));
        pthread_mutex_lock(&lock);
    }
    if (refused) return -refused;
    for (int n = 0; n < MOST_NODES; n++) {
        if (nodes[n].fd >= 0) continue;
        char label[32];
        snprintf(label, sizeof label, "virtual-camera-%d", name->number);
        int fd = memfd_create(label, flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
        if (fd < 0) return -errno;
        memset(&nodes[n], 0, sizeof nodes[n]);
        nodes[n].fd = fd;
        nodes[n].pid = getpid();
        nodes[n].camera = name->camera;
        nodes[n].number = name->number;
        nodes[n].metadata = name->metadata;
        nodes[n].nonblocking = flags & O_NONBLOCK;
        node_start(&nodes[n]);
        open_nodes++;
        return fd;
    }
    return -EMFILE;
}

/* -2: not ours. */
static int open_path(const char *path, int flags) {
    struct name name;
    pthread_mutex_lock(&lock);
    int there = look_up(path, &name);
    int made = there < 0 ? -2 : there ? open_node(&name, flags) : -ENOENT;
    pthread_mutex_unlock(&lock);
    return there < 0 ? -2 : answer(made);
}

#define MODE(last)                                                                                 \
    mode_t mode = 0;                                                                               \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                                         \
        va_list list;                                                                              \
        va_start(list, last);                                                                      \
        mode = va_arg(list, mode_t);                                                               \
        va_end(list);                                                                              \
    }
#define OPEN(function)                                                                             \
    int function(const char *path, int flags, ...) {                                               \
        NEXT(#function, int(const char *, int, ...));                                              \
        MODE(flags)                                                                                \
        int made = open_path(path, flags);                                                         \
        return made != -2 ? made : next(path, flags, mode);                                        \
    }
#define OPENAT(function)                                                                           \
    int function(int folder, const char *path, int flags, ...) {                                   \
        NEXT(#function, int(int, const char *, int, ...));                                         \
        MODE(flags)                                                                                \
        int made = open_path(path, flags);                                                         \
        return made != -2 ? made : next(folder, path, flags, mode);                                \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int __open_2(const char *path, int flags) { return open(path, flags); }
int __open64_2(const char *path, int flags) { return open(path, flags); }

/* v4l2-ctl asks sysfs what kind of device it is. */
static FILE *sysfs(const char *path) {
    int number, end = 0;
    struct name name;
    if (!path || sscanf(path, "/sys/dev/char/81:%d/uevent%n", &number, &end) != 1 || !end)
        return NULL;
    char device[32];
    snprintf(device, sizeof device, "/dev/video%d", number);
    pthread_mutex_lock(&lock);
    int there = look_up(device, &name);
    pthread_mutex_unlock(&lock);
    int fd = there > 0 ? memfd_create("uevent", MFD_CLOEXEC) : -1;
    if (fd < 0) return NULL;
    dprintf(fd, "MAJOR=%d\nMINOR=%d\nDEVNAME=video%d\n", VIDEO_MAJOR, number, number);
    lseek(fd, 0, SEEK_SET);
    return fdopen(fd, "r");
}

#define FOPEN(function)                                                                            \
    FILE *function(const char *path, const char *mode) {                                           \
        NEXT(#function, FILE * (const char *, const char *));                                      \
        FILE *made = sysfs(path);                                                                  \
        return made ? made : next(path, mode);                                                     \
    }
FOPEN(fopen)
FOPEN(fopen64)

int close(int fd) {
    NEXT("close", int(int));
    pthread_mutex_lock(&lock);
    struct node *node = node_of(fd);
    /* A child between vfork and exec shares our memory and closes only files of its own. */
    if (node && node->pid == getpid()) {
        node_end(node);
        open_nodes--;
    }
    for (int n = 0; n < exports; n++)
        if (exported[n].fd == fd) exported[n] = exported[--exports];
    pthread_mutex_unlock(&lock);
    return next(fd);
}

/* ---- memory ---- */

int lend_export(struct node *node, int index, uint32_t flags) {
    if (exports == MOST_NODES) return -EMFILE;
    int fd = fcntl(node->fd, flags & O_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
    if (fd < 0) return -errno;
    exported[exports].fd = fd;
    exported[exports++].start = (off_t)(node->each * (size_t)index);
    return fd;
}

/* An exported buffer begins at its own offset 0; ours all lie in one file. */
static off_t start_of(int fd) {
    if (!exports || fd < 0) return 0;
    off_t start = 0;
    pthread_mutex_lock(&lock);
    for (int n = 0; n < exports; n++)
        if (exported[n].fd == fd) start = exported[n].start;
    pthread_mutex_unlock(&lock);
    return start;
}

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    NEXT("mmap", void *(void *, size_t, int, int, int, off_t));
    return next(at, length, protection, flags, fd, offset + start_of(fd));
}

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off64_t offset) {
    NEXT("mmap64", void *(void *, size_t, int, int, int, off64_t));
    return next(at, length, protection, flags, fd, offset + start_of(fd));
}

/* ---- waiting ---- */

static short ready(struct node *node, short wanted, bool waits) {
    node_advance(node, waits);
    if (node->gone) return POLLERR | POLLHUP;
    short got = node->event ? POLLPRI : 0;
    if (!node->streaming) return got ? got & wanted : POLLERR;
    if (node->ready) got |= POLLIN | POLLRDNORM;
    return got & wanted;
}

static int wait_for(struct pollfd *files, nfds_t count, const struct timespec *timeout,
                    const sigset_t *signals) {
    static int (*next)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);
    if (!next) next = dlsym(RTLD_NEXT, "ppoll");
    int64_t end = timeout ? now_ns() + timeout->tv_sec * SECOND + timeout->tv_nsec : INT64_MAX;
    bool waits = !timeout || timeout->tv_sec || timeout->tv_nsec;
    struct pollfd others[count ? count : 1];
    for (;;) {
        int found = 0;
        bool ours = false;
        int64_t due = now_ns() + MOST_WAIT;
        pthread_mutex_lock(&lock);
        for (nfds_t n = 0; n < count; n++) {
            struct node *node = node_of(files[n].fd);
            others[n] = files[n];
            if (!node) continue;
            ours = true;
            others[n].fd = -1;
            files[n].revents = ready(node, files[n].events, waits);
            found += files[n].revents != 0;
            if (node_due(node) < due) due = node_due(node);
        }
        pthread_mutex_unlock(&lock);
        if (!ours) return next(files, count, timeout, signals);
        int64_t left = (due < end ? due : end) - now_ns();
        if (found || left < 0) left = 0;
        struct timespec wait = {left / SECOND, left % SECOND};
        int more = next(others, count, &wait, signals);
        if (more < 0) return more;
        if (found || more) {
            for (nfds_t n = 0; n < count; n++)
                if (others[n].fd >= 0 || files[n].fd < 0) files[n].revents = others[n].revents;
            return found + more;
        }
        if (now_ns() >= end) return 0;
    }
}

int poll(struct pollfd *files, nfds_t count, int milliseconds) {
    NEXT("poll", int(struct pollfd *, nfds_t, int));
    if (!open_nodes) return next(files, count, milliseconds);
    struct timespec timeout = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    return wait_for(files, count, milliseconds < 0 ? NULL : &timeout, NULL);
}

int __poll_chk(struct pollfd *files, nfds_t count, int milliseconds, size_t size) {
    (void)size;
    return poll(files, count, milliseconds);
}

int ppoll(struct pollfd *files, nfds_t count, const struct timespec *timeout,
          const sigset_t *signals) {
    return wait_for(files, count, timeout, signals);
}

int select(int most, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout) {
    NEXT("select", int(int, fd_set *, fd_set *, fd_set *, struct timeval *));
    bool ours = false;
    pthread_mutex_lock(&lock);
    for (int n = 0; n < MOST_NODES && open_nodes; n++)
        ours |= nodes[n].fd >= 0 && nodes[n].fd < most &&
                ((in && FD_ISSET(nodes[n].fd, in)) || (except && FD_ISSET(nodes[n].fd, except)));
    pthread_mutex_unlock(&lock);
    if (!ours || most > FD_SETSIZE) return next(most, in, out, except, timeout);
    struct pollfd files[most];
    nfds_t count = 0;
    for (int fd = 0; fd < most; fd++) {
        short wanted = (in && FD_ISSET(fd, in) ? POLLIN : 0) |
                       (out && FD_ISSET(fd, out) ? POLLOUT : 0) |
                       (except && FD_ISSET(fd, except) ? POLLPRI : 0);
        if (wanted) files[count++] = (struct pollfd){fd, wanted, 0};
    }
    struct timespec wait;
    if (timeout) wait = (struct timespec){timeout->tv_sec, timeout->tv_usec * 1000};
    int found = wait_for(files, count, timeout ? &wait : NULL, NULL);
    if (found < 0) return found;
    if (in) FD_ZERO(in);
    if (out) FD_ZERO(out);
    if (except) FD_ZERO(except);
    int bits = 0;
    for (nfds_t n = 0; n < count; n++) {
        short got = files[n].revents;
        if (in && got & (POLLIN | POLLERR | POLLHUP)) FD_SET(files[n].fd, in), bits++;
        if (out && got & POLLOUT) FD_SET(files[n].fd, out), bits++;
        if (except && got & POLLPRI) FD_SET(files[n].fd, except), bits++;
    }
    return bits;
}

/* ---- ioctl ---- */

int ioctl(int fd, unsigned long request, ...) {
    NEXT("ioctl", int(int, unsigned long, ...));
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (!open_nodes) return next(fd, request, argument);
    pthread_mutex_lock(&lock);
    struct node *node = node_of(fd);
    if (!node) {
        pthread_mutex_unlock(&lock);
        return next(fd, request, argument);
    }
    /* Bad addresses, as the kernel answers them: those of its own half are negative. */
    char nothing[1024] = {0};
    bool mapped = (intptr_t)argument > 0;
    int result = node_ioctl(node, (uint32_t)request, mapped ? argument : nothing);
    if (!mapped && result != -ENOTTY) result = -EFAULT;
    while (result == -EAGAIN && (uint32_t)request == VIDIOC_DQBUF && node->fd == fd) {
        node_advance(node, !node->nonblocking);
        result = node_ioctl(node, (uint32_t)request, argument);
        if (result != -EAGAIN || node->nonblocking) break;
        int64_t left = node_due(node) - now_ns();
        if (left > MOST_WAIT) left = MOST_WAIT;
        pthread_mutex_unlock(&lock);
        struct timespec wait = {0, left > 0 ? left : 1000};
        nanosleep(&wait, NULL);
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
    return answer(result);
}
