/* A V4L2 camera that is not there: a library to preload, which answers for /dev/videoN itself.
 *
 * settings.c  what the camera is to be and which faults it is to have
 * content.c   the pixels of frame n
 * device.c    one open file: formats, buffers, time, events
 * controls.c  brightness and the like
 * preload.c   the C library's calls that are answered instead of the kernel
 *
 * An open camera is a memfd, so its buffers can be mapped by any process that is given the file
 * descriptor. The rest of its state lives in the process that opened it. One lock guards it all.
 */
#ifndef VIRTUAL_CAMERA_H
#define VIRTUAL_CAMERA_H
#include <linux/videodev2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MOST_BUFFERS 32
#define MOST_MODES 64
#define MOST_RATES 8
#define SECOND INT64_C(1000000000)

/* settings.c */
extern unsigned settings_changed;                   /* how often the control file was changed */
void settings_load(void);                           /* again, if it was changed */
const char *setting(int camera, const char *name);  /* NULL: not set */
double setting_number(int camera, const char *name, double otherwise);
bool setting_holds(int camera, const char *name, uint32_t sequence); /* "7", "3-5", "3-", "3,9" */

struct mode {
    uint32_t format;
    uint32_t width, height;
    uint32_t most_width, most_height, step; /* step 0: one size only */
    int rates[MOST_RATES];
    int rate_count;
};
int settings_modes(int camera, struct mode *modes); /* how many */

/* device.c */
struct buffer {
    enum { IDLE, QUEUED, DONE, LENT } state;
    uint32_t sequence, used, flags;
    int64_t stamp;
};

struct node { /* one open file */
    int fd;   /* -1: free */
    pid_t pid;
    int camera, number;
    bool metadata, nonblocking;
    uint32_t format, width, height, stride, size;
    int rate;
    int buffers, lock;
    size_t each;
    uint8_t *memory;
    bool streaming, gone, changed, subscribed, event;
    uint32_t sequence;
    unsigned looked; /* at the modes, when the settings were that old */
    int64_t next;
    int queue[MOST_BUFFERS], queued, done[MOST_BUFFERS], ready;
    struct buffer buffer[MOST_BUFFERS];
};

int64_t now_ns(void);
void node_start(struct node *node);
void node_end(struct node *node);
void node_advance(struct node *node, bool waits); /* let time pass until now */
int64_t node_due(const struct node *node);        /* when its next frame comes */
int node_ioctl(struct node *node, uint32_t request, void *argument); /* 0 or -errno; -EAGAIN: wait */

/* content.c */
uint32_t row_bytes(uint32_t format, uint32_t width);
uint32_t picture_bytes(uint32_t format, uint32_t stride, uint32_t height);
uint32_t fill_picture(const struct node *node, uint8_t *memory, uint32_t sequence); /* bytes used */

/* controls.c */
bool is_control(uint32_t request);
int control_ioctl(struct node *node, uint32_t request, void *argument);

/* preload.c */
int lend_export(struct node *node, int index, uint32_t flags); /* a file descriptor or -errno */
#endif
