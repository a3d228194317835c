/* A few controls, one of each kind that cameras have; their values are kept per process. */
#include "virtual_camera.h"

#include <errno.h>
#include <string.h>

static struct control {
    uint32_t id, type;
    const char *name;
    int32_t least, most, step, usual, value;
    bool set;
    const char *menu[4];
} controls[] = {
    {V4L2_CID_USER_CLASS, V4L2_CTRL_TYPE_CTRL_CLASS, "User Controls", 0, 0, 0, 0, 0, 0, {0}},
    {V4L2_CID_BRIGHTNESS, V4L2_CTRL_TYPE_INTEGER, "Brightness", 0, 255, 1, 128, 0, 0, {0}},
    {V4L2_CID_CONTRAST, V4L2_CTRL_TYPE_INTEGER, "Contrast", 0, 100, 5, 50, 0, 0, {0}},
    {V4L2_CID_HFLIP, V4L2_CTRL_TYPE_BOOLEAN, "Horizontal Flip", 0, 1, 1, 0, 0, 0, {0}},
    {V4L2_CID_CAMERA_CLASS, V4L2_CTRL_TYPE_CTRL_CLASS, "Camera Controls", 0, 0, 0, 0, 0, 0, {0}},
    {V4L2_CID_EXPOSURE_AUTO, V4L2_CTRL_TYPE_MENU, "Auto Exposure", 0, 3, 1, 3, 0, 0,
     {NULL, "Manual Mode", NULL, "Aperture Priority Mode"}},
    {V4L2_CID_EXPOSURE_ABSOLUTE, V4L2_CTRL_TYPE_INTEGER, "Exposure Time, Absolute", 1, 5000, 1, 157,
     0, 0, {0}},
};
#define COUNT (sizeof controls / sizeof controls[0])

static struct control *of(uint32_t id) {
    struct control *best = NULL;
    bool next = id & (V4L2_CTRL_FLAG_NEXT_CTRL | V4L2_CTRL_FLAG_NEXT_COMPOUND);
    if (next && !(id & V4L2_CTRL_FLAG_NEXT_CTRL)) return NULL; /* none is compound */
    id &= V4L2_CTRL_ID_MASK;
    for (size_t n = 0; n < COUNT; n++) {
        struct control *control = &controls[n];
        if (next ? control->id > id && (!best || control->id < best->id) : control->id == id)
            best = control;
    }
    return best;
}

/* A class is a heading in the list: it has no value. */
static uint32_t flags(const struct control *control) {
    bool heading = control->type == V4L2_CTRL_TYPE_CTRL_CLASS;
    return heading ? V4L2_CTRL_FLAG_READ_ONLY | V4L2_CTRL_FLAG_WRITE_ONLY : 0;
}

static int32_t value_of(const struct control *control) {
    return control->set ? control->value : control->usual;
}

/* Nearest value that fits; a menu's item must be there. */
static int fitted(const struct control *control, int32_t *value) {
    if (control->type == V4L2_CTRL_TYPE_CTRL_CLASS) return -EACCES;
    if (control->type == V4L2_CTRL_TYPE_MENU) {
        if (*value < control->least || *value > control->most) return -ERANGE;
        return control->menu[*value] ? 0 : -EINVAL;
    }
    if (*value < control->least) *value = control->least;
    if (*value > control->most) *value = control->most;
    *value -= (*value - control->least) % control->step;
    return 0;
}

static int many(struct v4l2_ext_controls *list, uint32_t request) {
    uint32_t class = V4L2_CTRL_ID2WHICH(list->which);
    bool any = !list->which || list->which == V4L2_CTRL_WHICH_DEF_VAL;
    list->error_idx = list->count;
    for (uint32_t n = 0; n < list->count; n++) {
        struct control *control = of(list->controls[n].id);
        if (!control || (!any && V4L2_CTRL_ID2WHICH(control->id) != class)) {
            list->error_idx = request == VIDIOC_TRY_EXT_CTRLS ? n : list->count;
            return -EINVAL;
        }
        if (control->type == V4L2_CTRL_TYPE_CTRL_CLASS) {
            list->error_idx = request == VIDIOC_TRY_EXT_CTRLS ? n : list->count;
            return -EACCES;
        }
        int32_t value = list->controls[n].value;
        if (request == VIDIOC_G_EXT_CTRLS) {
            list->controls[n].value =
                list->which == V4L2_CTRL_WHICH_DEF_VAL ? control->usual : value_of(control);
            continue;
        }
        int failed = fitted(control, &value);
        if (failed) {
            list->error_idx = request == VIDIOC_TRY_EXT_CTRLS ? n : list->count;
            return failed;
        }
        list->controls[n].value = value;
        if (request == VIDIOC_S_EXT_CTRLS) control->value = value, control->set = true;
    }
    return 0;
}

bool is_control(uint32_t request) {
    return request == VIDIOC_QUERYCTRL || request == VIDIOC_QUERY_EXT_CTRL ||
           request == VIDIOC_QUERYMENU || request == VIDIOC_G_CTRL || request == VIDIOC_S_CTRL ||
           request == VIDIOC_G_EXT_CTRLS || request == VIDIOC_S_EXT_CTRLS ||
           request == VIDIOC_TRY_EXT_CTRLS;
}

int control_ioctl(struct node *node, uint32_t request, void *argument) {
    (void)node;
    if (request == VIDIOC_G_EXT_CTRLS || request == VIDIOC_S_EXT_CTRLS ||
        request == VIDIOC_TRY_EXT_CTRLS)
        return many(argument, request);
    uint32_t id = *(uint32_t *)argument; /* every one of these structures begins with it */
    struct control *control = of(id);
    if (!control) return -EINVAL;
    if (request == VIDIOC_QUERYCTRL) {
        struct v4l2_queryctrl *to = argument;
        memset(to, 0, sizeof *to);
        to->id = control->id, to->type = control->type;
        strncpy((char *)to->name, control->name, sizeof to->name - 1);
        to->minimum = control->least, to->maximum = control->most;
        to->step = control->step, to->default_value = control->usual;
        to->flags = flags(control);
    } else if (request == VIDIOC_QUERY_EXT_CTRL) {
        struct v4l2_query_ext_ctrl *to = argument;
        memset(to, 0, sizeof *to);
        to->id = control->id, to->type = control->type;
        strncpy(to->name, control->name, sizeof to->name - 1);
        to->minimum = control->least, to->maximum = control->most;
        to->step = (uint64_t)control->step, to->default_value = control->usual;
        to->elem_size = 4, to->elems = 1;
        to->flags = flags(control);
    } else if (request == VIDIOC_QUERYMENU) {
        struct v4l2_querymenu *to = argument;
        if (control->type != V4L2_CTRL_TYPE_MENU || to->index > (uint32_t)control->most ||
            !control->menu[to->index])
            return -EINVAL;
        memset(to->name, 0, sizeof to->name);
        strncpy((char *)to->name, control->menu[to->index], sizeof to->name - 1);
        to->reserved = 0;
    } else if (request == VIDIOC_G_CTRL) {
        if (control->type == V4L2_CTRL_TYPE_CTRL_CLASS) return -EACCES;
        ((struct v4l2_control *)argument)->value = value_of(control);
    } else {
        int32_t value = ((struct v4l2_control *)argument)->value;
        int failed = fitted(control, &value);
        if (failed) return failed;
        ((struct v4l2_control *)argument)->value = value;
        control->value = value, control->set = true;
    }
    return 0;
}
