#include "api/fault.h"

#include <stdarg.h>
#include <stdio.h>

enum rk_status rk_fault(const struct rk_place *place, enum rk_status status,
                        const char *name, const char *format, ...)
{
    struct rk_api_error *error = place->error;
    error->status = status;
    char item[32] = "";
    if (place->list != NULL)
        snprintf(item, sizeof(item), "%s[%u]", place->list, place->index);
    const char *parts[] = {item, place->sub == NULL ? "" : place->sub, name};
    size_t size = 0;
    error->field[0] = '\0';
    for (size_t i = 0; i < 3; i++) {
        if (parts[i][0] == '\0') continue;
        size += (size_t)snprintf(error->field + size, sizeof(error->field) - size,
                                 "%s%.40s", size == 0 ? "" : ".", parts[i]);
        if (size >= sizeof(error->field)) size = sizeof(error->field) - 1;
    }
    int used = snprintf(error->text, sizeof(error->text),
                        "%s: ", error->field[0] == '\0' ? "body" : error->field);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text + used, sizeof(error->text) - (size_t)used, format, arguments);
    va_end(arguments);
    return status;
}

enum { NAME_SIZE_MAX = 24 }; /* no field's name is longer; a test looks */

static uint32_t min3(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t least = a < b ? a : b;
    return least < c ? least : c;
}

/* Levenshtein's distance; both at most NAME_SIZE_MAX. */
static uint32_t distance(struct rk_slice a, struct rk_slice b)
{
    uint32_t row[NAME_SIZE_MAX + 1];
    for (uint32_t j = 0; j <= b.size; j++)
        row[j] = j;
    for (uint32_t i = 1; i <= a.size; i++) {
        uint32_t diagonal = row[0];
        row[0] = i;
        for (uint32_t j = 1; j <= b.size; j++) {
            uint32_t above = row[j];
            uint32_t changed = diagonal + (a.data[i - 1] != b.data[j - 1]);
            row[j] = min3(above + 1, row[j - 1] + 1, changed);
            diagonal = above;
        }
    }
    return row[b.size];
}

static const char *nearest(struct rk_slice name, const struct rk_rules *lists,
                           size_t list_count)
{
    const char *best = NULL;
    uint32_t best_distance = name.size < 5 ? 2 : 3; /* below it */
    if (name.size > NAME_SIZE_MAX) return NULL;
    for (size_t i = 0; i < list_count; i++) {
        for (uint32_t j = 0; j < lists[i].count; j++) {
            const struct rk_field_info *info = rk_rule_info(&lists[i].rules[j]);
            uint32_t far = distance(name, rk_slice_of(info->name, info->name_size));
            if (far >= best_distance) continue;
            best = info->name;
            best_distance = far;
        }
    }
    return best;
}

/* What a stranger sent goes into texts only if it is plain. */
static void plain_name(char out[static 41], struct rk_slice name)
{
    size_t size = name.size < 40 ? name.size : 40;
    for (size_t i = 0; i < size; i++)
        out[i] = name.data[i] >= 0x20 && name.data[i] < 0x7f ? (char)name.data[i] : '?';
    out[size] = '\0';
}

enum rk_status rk_fault_unknown(const struct rk_place *place, struct rk_slice name,
                                const struct rk_rules *lists, size_t list_count)
{
    char plain[41];
    plain_name(plain, name);
    const char *near = nearest(name, lists, list_count);
    if (near == NULL) return rk_fault(place, RK_EINVAL, plain, "unknown field");
    return rk_fault(place, RK_EINVAL, plain, "unknown field; did you mean %s?", near);
}
