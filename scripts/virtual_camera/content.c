/* The pixels of frame n: a moving pattern that a test can compute, or the frames of a file. */
#include "virtual_camera.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PADDING 0xEE /* what lies between the rows where they are padded */

uint32_t row_bytes(uint32_t format, uint32_t width) {
    switch (format) {
    case V4L2_PIX_FMT_YUYV: return (width + 1) / 2 * 4;
    case V4L2_PIX_FMT_BGR24:
    case V4L2_PIX_FMT_RGB24: return 3 * width;
    case V4L2_PIX_FMT_MJPEG: return 0;
    default: return width;
    }
}

uint32_t picture_bytes(uint32_t format, uint32_t stride, uint32_t height) {
    uint32_t half = (height + 1) / 2;
    switch (format) {
    case V4L2_PIX_FMT_NV12: return stride * height + stride * half;
    case V4L2_PIX_FMT_YUV420: return stride * height + 2 * ((stride + 1) / 2 * half);
    default: return stride * height;
    }
}

/* A file of frames: raw ones one after the other, or JPEGs. Mapped once, never unmapped. */
struct film {
    char path[512];
    const uint8_t *memory;
    size_t length;
    size_t jpeg[4096];
    uint32_t jpegs;
};

static const struct film *film(int camera, const char *name) {
    static struct film films[8];
    static int count;
    const char *path = setting(camera, name);
    if (!path) return NULL;
    for (int n = 0; n < count; n++)
        if (!strcmp(films[n].path, path)) return &films[n];
    if (count == 8 || strlen(path) >= sizeof films[0].path) return NULL;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    off_t length = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    void *memory = length < 1 ? MAP_FAILED
                              : (void *)syscall(SYS_mmap, NULL, length, PROT_READ, MAP_PRIVATE, fd, 0);
    if (fd >= 0) syscall(SYS_close, fd);
    if (memory == MAP_FAILED) return NULL;
    struct film *made = &films[count++];
    strcpy(made->path, path);
    made->memory = memory;
    made->length = (size_t)length;
    for (size_t at = 0; at + 3 < made->length && made->jpegs < 4095; at++)
        if (made->memory[at] == 0xFF && made->memory[at + 1] == 0xD8 && made->memory[at + 2] == 0xFF)
            made->jpeg[made->jpegs++] = at;
    made->jpeg[made->jpegs] = made->length;
    return made;
}

/* Byte x of row y of plane p in frame n is (x + 2 y + 64 p + 5 n) mod 256. */
static uint8_t *pattern(uint8_t *at, uint32_t row, uint32_t stride, uint32_t rows, uint32_t plane,
                        uint32_t sequence) {
    static uint8_t ramp[256 + 3 * 8192];
    if (!ramp[1])
        for (size_t n = 0; n < sizeof ramp; n++) ramp[n] = (uint8_t)n;
    if (row > 3 * 8192) row = 3 * 8192;
    for (uint32_t y = 0; y < rows; y++, at += stride) {
        memcpy(at, ramp + ((2 * y + 64 * plane + 5 * sequence) & 255), row);
        memset(at + row, PADDING, stride - row);
    }
    return at;
}

/* The planes of a raw picture, rows from `source` where there is one, else the pattern. */
static void planes(const struct node *node, uint8_t *memory, const uint8_t *source,
                   uint32_t sequence) {
    uint32_t row = row_bytes(node->format, node->width), stride = node->stride;
    uint32_t half = (node->height + 1) / 2, half_row = (node->width + 1) / 2;
    struct { uint32_t row, stride, rows; } plane[3] = {{row, stride, node->height}, {0}, {0}};
    if (node->format == V4L2_PIX_FMT_NV12) {
        plane[1].row = 2 * half_row, plane[1].stride = stride, plane[1].rows = half;
    } else if (node->format == V4L2_PIX_FMT_YUV420) {
        for (int n = 1; n < 3; n++)
            plane[n].row = half_row, plane[n].stride = (stride + 1) / 2, plane[n].rows = half;
    }
    for (uint32_t n = 0; n < 3; n++) {
        if (!source) {
            memory = pattern(memory, plane[n].row, plane[n].stride, plane[n].rows, n, sequence);
            continue;
        }
        for (uint32_t y = 0; y < plane[n].rows; y++) {
            memcpy(memory, source, plane[n].row);
            memory += plane[n].stride, source += plane[n].row;
        }
    }
}

uint32_t fill_picture(const struct node *node, uint8_t *memory, uint32_t sequence) {
    if (node->format == V4L2_PIX_FMT_MJPEG) {
        const struct film *jpegs = film(node->camera, "jpegs");
        if (!jpegs || !jpegs->jpegs) return 0;
        uint32_t n = sequence % jpegs->jpegs;
        size_t used = jpegs->jpeg[n + 1] - jpegs->jpeg[n];
        if (used > node->size) used = node->size;
        memcpy(memory, jpegs->memory + jpegs->jpeg[n], used);
        return (uint32_t)used;
    }
    const struct film *raw = film(node->camera, "frames");
    size_t each = picture_bytes(node->format, row_bytes(node->format, node->width), node->height);
    if (raw && raw->length >= each)
        planes(node, memory, raw->memory + sequence % (raw->length / each) * each, sequence);
    else
        planes(node, memory, NULL, sequence);
    return node->size;
}
