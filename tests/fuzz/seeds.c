/* Writes the seed corpus: fuzz_seeds FOLDER. The same bytes each time, so that a change of
 * a format shows as a change of its seeds. */
#include "seeds.h"

#include <stdio.h>
#include <sys/stat.h>

static const char *folder;

void seed_write(const char *target, const char *name, struct rk_slice bytes)
{
    char path[1024];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, target);
    (void)mkdir(path, 0755);
    (void)snprintf(path, sizeof(path), "%s/%s/%s", folder, target, name);
    FILE *file = fopen(path, "wb");
    RK_ASSERT(file != NULL);
    RK_ASSERT(fwrite(bytes.data, 1, bytes.size, file) == bytes.size);
    RK_ASSERT(fclose(file) == 0);
}

void seed_chunk(struct rk_buf *out, struct rk_slice bytes)
{
    RK_ASSERT(bytes.size <= UINT16_MAX);
    rk_buf_u16(out, (uint16_t)bytes.size);
    rk_buf_append_slice(out, bytes);
}

int main(int count, char **arguments)
{
    if (count != 2) {
        fprintf(stderr, "usage: fuzz_seeds FOLDER\n");
        return 2;
    }
    folder = arguments[1];
    (void)mkdir(folder, 0755);
    seeds_of_api();
    seeds_of_texts();
    seeds_of_storage();
    seeds_of_state();
    seeds_of_host();
    return 0;
}
