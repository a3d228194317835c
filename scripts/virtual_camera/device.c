/* One open camera: what it answers to ioctl, and what happens to it as time passes. */
#define _GNU_SOURCE
#include "virtual_camera.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define JPEG_BYTES (1u << 20)

int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static bool many_planes(const struct node *node) {
    return setting_number(node->camera, "mplane", 0) > 0;
}

static uint32_t buffer_type(const struct node *node) {
    if (node->metadata) return V4L2_BUF_TYPE_META_CAPTURE;
    return many_planes(node) ? V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE : V4L2_BUF_TYPE_VIDEO_CAPTURE;
}

static bool free_running(const struct node *node) {
    return setting_number(node->camera, "free", 0) > 0;
}

/* ---- modes ---- */

static bool fits(const struct mode *mode, uint32_t format, uint32_t width, uint32_t height) {
    if (mode->format != format) return false;
    if (!mode->step) return mode->width == width && mode->height == height;
    return width >= mode->width && width <= mode->most_width && height >= mode->height &&
           height <= mode->most_height && (width - mode->width) % mode->step == 0 &&
           (height - mode->height) % mode->step == 0;
}

static uint32_t stepped(uint32_t wanted, uint32_t least, uint32_t most, uint32_t step) {
    if (wanted <= least) return least;
    if (wanted >= most) return most;
    return least + (wanted - least) / step * step;
}

/* Set the node to the mode nearest to what is asked; a strange format becomes the first one. */
static void choose(struct node *node, uint32_t format, uint32_t width, uint32_t height) {
    struct mode modes[MOST_MODES];
    int count = settings_modes(node->camera, modes), best = 0;
    double least = INFINITY;
    bool known = false;
    for (int n = 0; n < count; n++) known |= modes[n].format == format;
    if (!known) format = modes[0].format;
    for (int n = 0; n < count; n++) {
        const struct mode *mode = &modes[n];
        if (mode->format != format) continue;
        uint32_t w = mode->width, h = mode->height;
        if (mode->step) {
            w = stepped(width, w, mode->most_width, mode->step);
            h = stepped(height, h, mode->most_height, mode->step);
        }
        double away = fabs((double)w - width) + fabs((double)h - height);
        if (away >= least) continue;
        least = away, best = n;
        node->width = w, node->height = h;
    }
    node->format = format;
    const char *lie = setting(node->camera, "lie"); /* `YUYV:800x600`: whatever was asked */
    char code[5];
    if (lie && sscanf(lie, "%4c:%ux%u", code, &node->width, &node->height) == 3)
        node->format = v4l2_fourcc(code[0], code[1], code[2], code[3]);
    bool rate_known = false;
    for (int n = 0; n < modes[best].rate_count; n++) rate_known |= modes[best].rates[n] == node->rate;
    if (!rate_known) node->rate = modes[best].rates[0];
    uint32_t row = row_bytes(node->format, node->width);
    row += row & 1;
    uint32_t stride = (uint32_t)setting_number(node->camera, "stride", 0);
    node->stride = node->format != V4L2_PIX_FMT_MJPEG && stride > row ? stride : row;
    node->size = node->format == V4L2_PIX_FMT_MJPEG
                     ? JPEG_BYTES
                     : picture_bytes(node->format, node->stride, node->height);
}

static void tell_format(const struct node *node, struct v4l2_format *to) {
    unsigned colour[3] = {V4L2_COLORSPACE_SRGB, 0, 0};
    const char *given = setting(node->camera, "colour"); /* colorspace,ycbcr_enc,quantization */
    if (given) sscanf(given, "%u,%u,%u", &colour[0], &colour[1], &colour[2]);
    uint32_t type = to->type;
    memset(to, 0, sizeof *to);
    to->type = type;
    if (many_planes(node)) {
        struct v4l2_pix_format_mplane *pix = &to->fmt.pix_mp;
        pix->width = node->width, pix->height = node->height;
        pix->pixelformat = node->format, pix->field = V4L2_FIELD_NONE;
        pix->colorspace = colour[0], pix->ycbcr_enc = colour[1], pix->quantization = colour[2];
        pix->num_planes = 1;
        pix->plane_fmt[0].sizeimage = node->size;
        pix->plane_fmt[0].bytesperline = node->stride;
        return;
    }
    struct v4l2_pix_format *pix = &to->fmt.pix;
    pix->width = node->width, pix->height = node->height;
    pix->pixelformat = node->format, pix->field = V4L2_FIELD_NONE;
    pix->bytesperline = node->stride, pix->sizeimage = node->size;
    pix->colorspace = colour[0], pix->ycbcr_enc = colour[1], pix->quantization = colour[2];
    pix->priv = V4L2_PIX_FMT_PRIV_MAGIC;
}

static int set_format(struct node *node, struct v4l2_format *asked, bool keep) {
    if (keep && node->buffers) return -EBUSY;
    struct node tried = *node;
    if (many_planes(node))
        choose(&tried, asked->fmt.pix_mp.pixelformat, asked->fmt.pix_mp.width,
               asked->fmt.pix_mp.height);
    else
        choose(&tried, asked->fmt.pix.pixelformat, asked->fmt.pix.width, asked->fmt.pix.height);
    tell_format(&tried, asked);
    if (keep) *node = tried;
    return 0;
}

static const char *description(uint32_t format) {
    switch (format) {
    case V4L2_PIX_FMT_NV12: return "Y/CbCr 4:2:0";
    case V4L2_PIX_FMT_YUYV: return "YUYV 4:2:2";
    case V4L2_PIX_FMT_YUV420: return "Planar YUV 4:2:0";
    case V4L2_PIX_FMT_BGR24: return "24-bit BGR 8-8-8";
    case V4L2_PIX_FMT_RGB24: return "24-bit RGB 8-8-8";
    case V4L2_PIX_FMT_GREY: return "8-bit Greyscale";
    case V4L2_PIX_FMT_MJPEG: return "Motion-JPEG";
    default: return "of another kind";
    }
}

static int enumerate_formats(struct node *node, struct v4l2_fmtdesc *to) {
    struct mode modes[MOST_MODES];
    int count = settings_modes(node->camera, modes);
    uint32_t index = 0;
    for (int n = 0; n < count; n++) {
        bool seen = false;
        for (int k = 0; k < n; k++) seen |= modes[k].format == modes[n].format;
        if (seen || index++ != to->index) continue;
        to->pixelformat = modes[n].format;
        to->flags = to->pixelformat == V4L2_PIX_FMT_MJPEG ? V4L2_FMT_FLAG_COMPRESSED : 0;
        to->mbus_code = 0;
        memset(to->reserved, 0, sizeof to->reserved);
        memset(to->description, 0, sizeof to->description);
        strcpy((char *)to->description, description(to->pixelformat));
        return 0;
    }
    return -EINVAL;
}

static int enumerate_sizes(struct node *node, struct v4l2_frmsizeenum *to) {
    struct mode modes[MOST_MODES];
    int count = settings_modes(node->camera, modes);
    uint32_t index = 0;
    for (int n = 0; n < count; n++) {
        if (modes[n].format != to->pixel_format || index++ != to->index) continue;
        memset(to->reserved, 0, sizeof to->reserved);
        if (!modes[n].step) {
            to->type = V4L2_FRMSIZE_TYPE_DISCRETE;
            to->discrete.width = modes[n].width, to->discrete.height = modes[n].height;
            return 0;
        }
        to->type = V4L2_FRMSIZE_TYPE_STEPWISE;
        to->stepwise = (struct v4l2_frmsize_stepwise){
            modes[n].width,  modes[n].most_width,  modes[n].step,
            modes[n].height, modes[n].most_height, modes[n].step};
        return 0;
    }
    return -EINVAL;
}

static int enumerate_intervals(struct node *node, struct v4l2_frmivalenum *to) {
    struct mode modes[MOST_MODES];
    int count = settings_modes(node->camera, modes);
    for (int n = 0; n < count; n++) {
        if (!fits(&modes[n], to->pixel_format, to->width, to->height)) continue;
        if (to->index >= (uint32_t)modes[n].rate_count) return -EINVAL;
        to->type = V4L2_FRMIVAL_TYPE_DISCRETE;
        to->discrete = (struct v4l2_fract){1, (uint32_t)modes[n].rates[to->index]};
        memset(to->reserved, 0, sizeof to->reserved);
        return 0;
    }
    return -EINVAL;
}

static int set_rate(struct node *node, struct v4l2_streamparm *to, bool keep) {
    if (to->type != buffer_type(node) || node->metadata) return -EINVAL;
    struct v4l2_fract asked = to->parm.capture.timeperframe;
    if (keep && asked.numerator && asked.denominator) {
        struct mode modes[MOST_MODES];
        int count = settings_modes(node->camera, modes);
        double wanted = (double)asked.denominator / asked.numerator, least = INFINITY;
        for (int n = 0; n < count; n++) {
            if (!fits(&modes[n], node->format, node->width, node->height)) continue;
            for (int k = 0; k < modes[n].rate_count; k++) {
                if (fabs(modes[n].rates[k] - wanted) >= least) continue;
                least = fabs(modes[n].rates[k] - wanted);
                node->rate = modes[n].rates[k];
            }
        }
    }
    memset(&to->parm, 0, sizeof to->parm);
    to->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
    to->parm.capture.timeperframe = (struct v4l2_fract){1, (uint32_t)node->rate};
    return 0;
}

/* ---- buffers ---- */

/* One process at a time may hold buffers of a camera: the name of a socket, which ends with it. */
static int take_lock(struct node *node) {
    const char *id = setting(node->camera, "id");
    if (!id) id = getenv("VIRTUAL_CAMERA_CONTROL");
    char alone[16];
    snprintf(alone, sizeof alone, "%d", getpid());
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int used = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "virtual-camera-%d-%s",
                        node->camera, id ? id : alone);
    if (used > (int)sizeof name.sun_path - 2) used = (int)sizeof name.sun_path - 2;
    int lock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (lock < 0) return -errno;
    if (bind(lock, (struct sockaddr *)&name, (socklen_t)(sizeof name.sun_family + 1 + used))) {
        syscall(SYS_close, lock);
        return -EBUSY;
    }
    node->lock = lock;
    return 0;
}

static void stop(struct node *node) {
    node->streaming = false;
    node->queued = node->ready = 0;
    for (int n = 0; n < node->buffers; n++) node->buffer[n].state = IDLE;
}

static void free_buffers(struct node *node) {
    stop(node);
    if (node->memory) syscall(SYS_munmap, node->memory, node->each * (size_t)node->buffers);
    if (node->lock >= 0) syscall(SYS_close, node->lock);
    node->memory = NULL;
    node->buffers = 0;
    node->lock = -1;
}

static int request_buffers(struct node *node, struct v4l2_requestbuffers *to) {
    if (to->type != buffer_type(node) || to->memory != V4L2_MEMORY_MMAP) return -EINVAL;
    int most = (int)setting_number(node->camera, "buffers", MOST_BUFFERS);
    if (most > MOST_BUFFERS) most = MOST_BUFFERS;
    int failed = node->buffers ? 0 : take_lock(node);
    if (failed) return failed;
    free_buffers(node);
    to->capabilities = V4L2_BUF_CAP_SUPPORTS_MMAP | V4L2_BUF_CAP_SUPPORTS_ORPHANED_BUFS;
    to->flags = 0;
    if (!to->count) return 0;
    failed = take_lock(node);
    if (failed) return failed;
    long page = sysconf(_SC_PAGESIZE);
    node->each = (node->size + (size_t)page - 1) / (size_t)page * (size_t)page;
    node->buffers = to->count > (uint32_t)most ? most : (int)to->count;
    to->count = (uint32_t)node->buffers;
    size_t all = node->each * to->count;
    /* Never made shorter: pages that somebody still has mapped must stay. */
    if (lseek(node->fd, 0, SEEK_END) < (off_t)all && ftruncate(node->fd, (off_t)all)) return -errno;
    void *memory = (void *)syscall(SYS_mmap, NULL, all, PROT_READ | PROT_WRITE, MAP_SHARED,
                                   node->fd, 0);
    if (memory == MAP_FAILED) {
        node->buffers = 0;
        free_buffers(node);
        return -ENOMEM;
    }
    node->memory = memory;
    memset(node->buffer, 0, sizeof node->buffer);
    for (int n = 0; n < node->buffers; n++)
        node->buffer[n].used = fill_picture(node, node->memory + n * node->each, (uint32_t)n);
    return 0;
}

static void tell_buffer(const struct node *node, struct v4l2_buffer *to, int index) {
    const struct buffer *buffer = &node->buffer[index];
    struct v4l2_plane *planes = to->m.planes;
    bool many = many_planes(node);
    memset(to, 0, sizeof *to);
    to->index = (uint32_t)index;
    to->type = buffer_type(node);
    to->memory = V4L2_MEMORY_MMAP;
    to->field = V4L2_FIELD_NONE;
    to->sequence = buffer->sequence;
    to->timestamp.tv_sec = buffer->stamp / SECOND;
    to->timestamp.tv_usec = buffer->stamp % SECOND / 1000;
    to->flags = buffer->flags | (buffer->state == QUEUED ? V4L2_BUF_FLAG_QUEUED : 0) |
                (buffer->state == DONE ? V4L2_BUF_FLAG_DONE : 0);
    if (!setting_number(node->camera, "strange_clock", 0))
        to->flags |= V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    if (many && planes) {
        memset(planes, 0, sizeof *planes);
        planes->bytesused = buffer->used;
        planes->length = (uint32_t)node->each;
        planes->m.mem_offset = (uint32_t)(node->each * (size_t)index);
        to->m.planes = planes;
        to->length = 1;
    } else if (!many) {
        to->bytesused = buffer->used;
        to->length = (uint32_t)node->each;
        to->m.offset = (uint32_t)(node->each * (size_t)index);
    }
}

static int queue_buffer(struct node *node, struct v4l2_buffer *to) {
    if (to->type != buffer_type(node) || to->index >= (uint32_t)node->buffers ||
        to->memory != V4L2_MEMORY_MMAP)
        return -EINVAL;
    if (to->flags & V4L2_BUF_FLAG_REQUEST_FD) return -EBADR;
    int index = (int)to->index;
    struct buffer *buffer = &node->buffer[index];
    if (buffer->state == QUEUED || buffer->state == DONE) return -EINVAL;
    buffer->state = QUEUED;
    node->queue[node->queued++] = index;
    tell_buffer(node, to, index);
    return 0;
}

static int dequeue_buffer(struct node *node, struct v4l2_buffer *to) {
    if (to->type != buffer_type(node) || !node->streaming) return -EINVAL;
    if (!node->ready) return -EAGAIN;
    int index = node->done[0];
    memmove(node->done, node->done + 1, sizeof(int) * (size_t)--node->ready);
    struct buffer *buffer = &node->buffer[index];
    buffer->state = LENT;
    if (setting_holds(node->camera, "eio", buffer->sequence)) return -EIO;
    tell_buffer(node, to, index);
    return 0;
}

/* ---- time ---- */

static void produce(struct node *node, int64_t stamp) {
    int camera = node->camera;
    uint32_t sequence = node->sequence;
    if (setting_holds(camera, "stall", sequence)) return;
    if (setting_holds(camera, "unplug", sequence)) {
        node->gone = true;
        return;
    }
    node->sequence++;
    if (!node->queued) return; /* as a driver does: the new frame is lost, the filled ones age */
    int index = node->queue[0];
    memmove(node->queue, node->queue + 1, sizeof(int) * (size_t)--node->queued);
    struct buffer *buffer = &node->buffer[index];
    buffer->state = DONE;
    buffer->sequence = sequence;
    buffer->stamp = setting_holds(camera, "back", sequence) ? stamp - 3 * SECOND : stamp;
    buffer->flags = setting_holds(camera, "error", sequence) ? V4L2_BUF_FLAG_ERROR : 0;
    if (!setting_number(camera, "still", 0))
        buffer->used = fill_picture(node, node->memory + (size_t)index * node->each, sequence);
    if (setting_holds(camera, "short", sequence)) buffer->used /= 2;
    if (setting_holds(camera, "empty", sequence)) buffer->used = 0;
    node->done[node->ready++] = index;
}

/* The mode that it streams in is no longer among its modes: what it looks at has changed. */
static bool mode_is_left(struct node *node) {
    struct mode modes[MOST_MODES];
    if (node->looked == settings_changed) return true;
    node->looked = settings_changed;
    int count = settings_modes(node->camera, modes);
    if (setting(node->camera, "lie")) return true;
    for (int n = 0; n < count; n++)
        if (fits(&modes[n], node->format, node->width, node->height)) return true;
    return false;
}

void node_advance(struct node *node, bool waits) {
    settings_load();
    if (setting_number(node->camera, "present", 1) < 1) node->gone = true;
    if (!node->metadata && setting_number(node->camera, "number", node->camera) != node->number)
        node->gone = true;
    if (node->gone || !node->streaming || node->changed) return;
    if (!mode_is_left(node)) {
        node->changed = true;
        node->event = node->subscribed;
        return;
    }
    int64_t now = now_ns();
    if (free_running(node)) {
        if (waits && !node->ready) produce(node, now);
        return;
    }
    while (node->next <= now && !node->gone) {
        produce(node, node->next);
        node->next += SECOND / node->rate;
    }
}

int64_t node_due(const struct node *node) {
    bool waits = !node->streaming || node->changed || free_running(node);
    return waits ? now_ns() + SECOND / 100 : node->next;
}

void node_start(struct node *node) {
    node->lock = -1;
    node->rate = 30;
    choose(node, 0, 640, 480);
}

void node_end(struct node *node) {
    free_buffers(node);
    node->fd = -1;
}

/* ---- ioctl ---- */

static void tell_capability(const struct node *node, struct v4l2_capability *to) {
    const char *card = setting(node->camera, "card"), *bus = setting(node->camera, "bus");
    memset(to, 0, sizeof *to);
    strcpy((char *)to->driver, "virtual_camera");
    snprintf((char *)to->card, sizeof to->card, "%s", card ? card : "Virtual camera");
    if (bus)
        snprintf((char *)to->bus_info, sizeof to->bus_info, "%s", bus);
    else
        snprintf((char *)to->bus_info, sizeof to->bus_info, "usb-virtual-%d", node->camera);
    to->version = 0x060100;
    uint32_t captures = node->metadata      ? V4L2_CAP_META_CAPTURE
                        : many_planes(node) ? V4L2_CAP_VIDEO_CAPTURE_MPLANE
                                            : V4L2_CAP_VIDEO_CAPTURE;
    to->device_caps = captures | V4L2_CAP_STREAMING | V4L2_CAP_EXT_PIX_FORMAT;
    to->capabilities = to->device_caps | V4L2_CAP_DEVICE_CAPS;
    if (node->metadata || setting(node->camera, "metadata"))
        to->capabilities |= V4L2_CAP_META_CAPTURE | (node->metadata ? V4L2_CAP_VIDEO_CAPTURE : 0);
}

static int stream(struct node *node, uint32_t type, bool on) {
    if (type != buffer_type(node)) return -EINVAL;
    if (!on) {
        stop(node);
        return 0;
    }
    if (!node->buffers) return -EINVAL;
    node->streaming = true;
    node->sequence = 0;
    node->next = now_ns() + SECOND / node->rate +
                 (int64_t)(setting_number(node->camera, "late", 0) * (double)SECOND);
    return 0;
}

static int events(struct node *node, uint32_t request, void *argument) {
    struct v4l2_event_subscription *wish = argument;
    struct v4l2_event *to = argument;
    if (request == VIDIOC_DQEVENT) {
        if (!node->event) return -ENOENT;
        node->event = false;
        memset(to, 0, sizeof *to);
        to->type = V4L2_EVENT_SOURCE_CHANGE;
        to->u.src_change.changes = V4L2_EVENT_SRC_CH_RESOLUTION;
        clock_gettime(CLOCK_MONOTONIC, &to->timestamp);
        return 0;
    }
    if (request == VIDIOC_UNSUBSCRIBE_EVENT) {
        if (wish->type == V4L2_EVENT_SOURCE_CHANGE || wish->type == V4L2_EVENT_ALL)
            node->subscribed = false;
        return 0;
    }
    if (wish->type != V4L2_EVENT_SOURCE_CHANGE || setting(node->camera, "eventless"))
        return -EINVAL;
    node->subscribed = true;
    return 0;
}

int node_ioctl(struct node *node, uint32_t request, void *argument) {
    if (request != VIDIOC_DQBUF) node_advance(node, false);
    if (node->gone) return -ENODEV;
    if (request == VIDIOC_QUERYCAP) {
        tell_capability(node, argument);
        return 0;
    }
    if (node->metadata) return -ENOTTY;
    struct v4l2_format *format = argument;
    switch (request) {
    case VIDIOC_ENUM_FMT:
        if (((struct v4l2_fmtdesc *)argument)->type != buffer_type(node)) return -EINVAL;
        return enumerate_formats(node, argument);
    case VIDIOC_ENUM_FRAMESIZES: return enumerate_sizes(node, argument);
    case VIDIOC_ENUM_FRAMEINTERVALS: return enumerate_intervals(node, argument);
    case VIDIOC_G_FMT:
        if (format->type != buffer_type(node)) return -EINVAL;
        tell_format(node, format);
        return 0;
    case VIDIOC_TRY_FMT:
    case VIDIOC_S_FMT:
        if (format->type != buffer_type(node)) return -EINVAL;
        return set_format(node, format, request == VIDIOC_S_FMT);
    case VIDIOC_G_PARM: return set_rate(node, argument, false);
    case VIDIOC_S_PARM: return set_rate(node, argument, true);
    case VIDIOC_ENUMINPUT: {
        struct v4l2_input *input = argument;
        if (input->index) return -EINVAL;
        memset(input, 0, sizeof *input);
        strcpy((char *)input->name, "Camera");
        input->type = V4L2_INPUT_TYPE_CAMERA;
        return 0;
    }
    case VIDIOC_G_INPUT: *(int *)argument = 0; return 0;
    case VIDIOC_S_INPUT: return *(int *)argument ? -EINVAL : 0;
    case VIDIOC_G_PRIORITY: *(uint32_t *)argument = V4L2_PRIORITY_DEFAULT; return 0;
    case VIDIOC_S_PRIORITY: return 0;
    case VIDIOC_REQBUFS: return request_buffers(node, argument);
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *buffer = argument;
        if (buffer->type != buffer_type(node) || buffer->index >= (uint32_t)node->buffers)
            return -EINVAL;
        tell_buffer(node, buffer, (int)buffer->index);
        return 0;
    }
    case VIDIOC_QBUF: return queue_buffer(node, argument);
    case VIDIOC_DQBUF: return dequeue_buffer(node, argument);
    case VIDIOC_EXPBUF: {
        struct v4l2_exportbuffer *wish = argument;
        if (wish->type != buffer_type(node) || wish->index >= (uint32_t)node->buffers || wish->plane)
            return -EINVAL;
        int lent = lend_export(node, (int)wish->index, wish->flags);
        if (lent < 0) return lent;
        wish->fd = lent;
        return 0;
    }
    case VIDIOC_STREAMON:
    case VIDIOC_STREAMOFF:
        return stream(node, *(uint32_t *)argument, request == VIDIOC_STREAMON);
    case VIDIOC_SUBSCRIBE_EVENT:
    case VIDIOC_UNSUBSCRIBE_EVENT:
    case VIDIOC_DQEVENT: return events(node, request, argument);
    default: return is_control(request) ? control_ioctl(node, request, argument) : -ENOTTY;
    }
}
