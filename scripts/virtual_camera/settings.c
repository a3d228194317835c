/* What the camera is to be: `name=value` lines of the control file, else environment variables.
 *
 * The control file ($VIRTUAL_CAMERA_CONTROL) is read again whenever it was changed, also while the
 * camera runs. A name may end in `.1` to hold for the camera 1 alone.
 */
#include "virtual_camera.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char text[8192];
static struct { char *name, *value; } lines[128];
static int line_count;
static struct timespec changed;
static ino_t inode;
unsigned settings_changed = 1;

void settings_load(void) {
    const char *path = getenv("VIRTUAL_CAMERA_CONTROL");
    struct stat about;
    if (!path || syscall(SYS_newfstatat, AT_FDCWD, path, &about, 0)) return;
    if (about.st_ino == inode && about.st_mtim.tv_sec == changed.tv_sec &&
        about.st_mtim.tv_nsec == changed.tv_nsec)
        return;
    inode = about.st_ino;
    changed = about.st_mtim;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t got = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    text[got > 0 ? got : 0] = 0;
    line_count = 0;
    settings_changed++;
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) && line_count < 128;) {
        char *equals = strchr(line, '=');
        if (!equals) continue;
        *equals = 0;
        lines[line_count].name = line;
        lines[line_count++].value = equals + 1;
    }
}

static const char *find(const char *name) {
    for (int n = 0; n < line_count; n++)
        if (!strcmp(lines[n].name, name)) return lines[n].value;
    char variable[96] = "VIRTUAL_CAMERA_";
    size_t at = strlen(variable);
    for (; *name && at < sizeof variable - 1; name++)
        variable[at++] = *name == '.' ? '_' : *name >= 'a' && *name <= 'z' ? *name - 32 : *name;
    return getenv(variable);
}

/* Asked several times a frame, so what was found is kept; a name is known by where it lies. */
const char *setting(int camera, const char *name) {
    static struct { const char *name, *value; int camera; unsigned as_of; } kept[256], *slot;
    slot = &kept[((uintptr_t)name + 31 * (unsigned)camera) % 256];
    if (slot->name == name && slot->camera == camera && slot->as_of == settings_changed)
        return slot->value;
    char own[64];
    snprintf(own, sizeof own, "%s.%d", name, camera);
    const char *value = find(own);
    if (!value) value = find(name);
    slot->name = name, slot->camera = camera, slot->as_of = settings_changed;
    return slot->value = value && *value ? value : NULL;
}

double setting_number(int camera, const char *name, double otherwise) {
    const char *value = setting(camera, name);
    return value ? atof(value) : otherwise;
}

bool setting_holds(int camera, const char *name, uint32_t sequence) {
    const char *at = setting(camera, name);
    while (at) {
        char *end;
        unsigned long first = strtoul(at, &end, 10), last = first;
        if (end == at) return false;
        if (*end == '-') {
            at = end + 1;
            last = strtoul(at, &end, 10);
            if (end == at) last = UINT32_MAX;
        }
        if (sequence >= first && sequence <= last) return true;
        at = *end == ',' ? end + 1 : NULL;
    }
    return false;
}

/* `NV12:640x480@30,60 YUYV:1280x720@10 NV12:64x64-1920x1080/2@30` */
int settings_modes(int camera, struct mode *modes) {
    static const char usual[] =
        "NV12:640x480@30,60 NV12:320x240@30,60 NV12:1280x720@30,60 NV12:1920x1080@30 "
        "YUYV:640x480@30,60 YUYV:320x240@30,60 YUYV:1280x720@30,60 YUYV:1920x1080@30 "
        "YU12:640x480@30,60 YU12:1280x720@30,60 BGR3:640x480@30,60 BGR3:1280x720@30,60 "
        "RGB3:640x480@30,60 GREY:640x480@30,60 GREY:1280x720@30,60";
    const char *at = setting(camera, "modes");
    if (!at) at = usual;
    int count = 0;
    while (count < MOST_MODES) {
        struct mode *mode = &modes[count];
        memset(mode, 0, sizeof *mode);
        char code[5];
        int used = 0;
        if (sscanf(at, " %4c:%ux%u%n", code, &mode->width, &mode->height, &used) < 3) break;
        mode->format = v4l2_fourcc(code[0], code[1], code[2], code[3]);
        at += used;
        if (*at == '-') {
            if (sscanf(at, "-%ux%u/%u%n", &mode->most_width, &mode->most_height, &mode->step,
                       &used) < 3)
                break;
            at += used;
        }
        while ((*at == '@' || *at == ',') && mode->rate_count < MOST_RATES) {
            mode->rates[mode->rate_count++] = (int)strtol(at + 1, (char **)&at, 10);
        }
        if (!mode->rate_count) mode->rates[mode->rate_count++] = 30;
        count++;
    }
    return count;
}
