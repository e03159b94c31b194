/* A node's settings from a file. What is taken prints as a file that is taken and prints
 * the same. */
#include "fuzz.h"

#include "rukund/config.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static enum rk_status load(struct rk_config *config, struct rk_slice text, char *error)
{
    char path[64];
    char *const environment[] = {NULL};
    int file = memfd_create("settings", 0);
    RK_ASSERT(file >= 0);
    RK_ASSERT(write(file, text.data, text.size) == (ssize_t)text.size);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    char program[] = "rukund", flag[] = "--config";
    char *const arguments[] = {program, flag, path, NULL};
    enum rk_status status = rk_config_load(config, 3, arguments, environment, error);
    close(file);
    return status;
}

/* Without the remarks that say where each came from, and the name of the file itself. */
static void strip(struct rk_buf *text)
{
    struct rk_buf out;
    rk_buf_init(&out);
    for (size_t at = 0; at < text->size;) {
        const uint8_t *line = text->data + at;
        const uint8_t *end = memchr(line, '\n', text->size - at);
        RK_ASSERT(end != NULL);
        struct rk_slice rest = rk_slice_of(line, (size_t)(end - line));
        at += rest.size + 1;
        if (rk_slice_has_prefix(rest, RK_SLICE_LITERAL("config = "))) continue;
        while (rest.size > 0 && rest.data[rest.size - 1] != ';')
            rest.size--;
        rk_buf_append_slice(&out, rest);
        rk_buf_u8(&out, '\n');
    }
    rk_buf_fini(text);
    *text = out;
}

/* inih reads lines of up to 200 bytes; the remark that is printed makes some longer. */
static bool has_long_line(const struct rk_buf *text)
{
    size_t size = 0;
    for (size_t i = 0; i < text->size; i++) {
        size = text->data[i] == '\n' ? 0 : size + 1;
        if (size > 190) return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rk_config first, second;
    struct rk_buf once, twice;
    char error[RK_CONFIG_ERROR_MAX] = "";
    if (size == 0 || size > 16384) return 0;
    rk_buf_init(&once);
    rk_buf_init(&twice);
    enum rk_status status = load(&first, rk_slice_of(data, size), error);
    if (status == RK_OK) {
        rk_config_print(&once, &first);
        if (has_long_line(&once)) goto done;
        status = load(&second, rk_buf_slice(&once), error);
        if (status != RK_OK) fprintf(stderr, "%s\n%.*s", error, (int)once.size, once.data);
        RK_ASSERT(status == RK_OK);
        rk_config_print(&twice, &second);
        strip(&once);
        strip(&twice);
        RK_ASSERT(rk_slice_is_equal(rk_buf_slice(&once), rk_buf_slice(&twice)));
        rk_config_fini(&second);
    } else {
        RK_ASSERT(status == RK_EINVAL && error[0] != '\0');
        RK_ASSERT(strchr(error, '\n') == NULL);
    }
done:
    rk_config_fini(&first);
    rk_buf_fini(&once);
    rk_buf_fini(&twice);
    return 0;
}
