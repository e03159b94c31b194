#include "rukund/inspect.h"

#include "rukund/backups.h"
#include "storage/backup.h"
#include "storage/inspect.h"

#include <stdio.h>
#include <stdlib.h>

static int usage(void)
{
    (void)fputs("usage: rukund inspect DIR|BACKUP [--batches] [--records] [--group N]\n",
                stderr);
    return 2;
}

static int inspect(const char *data, const struct rk_storage_inspect_options *options)
{
    char wal[RK_FS_PATH_MAX], snapshots[RK_FS_PATH_MAX];
    struct rk_storage_error error = {""};
    struct rk_buf out;
    uint64_t faults = 0;
    if (rk_fs_join(wal, data, "wal") != RK_OK ||
        rk_fs_join(snapshots, data, "snap") != RK_OK) {
        (void)fprintf(stderr, "rukund: the path is too long\n");
        return 2;
    }
    rk_buf_init(&out);
    enum rk_status status =
        rk_storage_inspect(rk_fs_posix(), wal, snapshots, options, &out, &faults, &error);
    if (out.size > 0) (void)fwrite(out.data, 1, out.size, stdout);
    rk_buf_fini(&out);
    if (status != RK_OK) {
        (void)fprintf(stderr, "rukund: %s: %s\n", rk_status_text(status), error.message);
        return 2;
    }
    (void)printf("%llu faults\n", (unsigned long long)faults);
    return faults > 0 ? 1 : 0;
}

int rk_inspect_main(int argc, char *const *argv)
{
    struct rk_storage_inspect_options options;
    const char *data = NULL;
    rk_storage_inspect_options_init(&options);
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--batches") == 0)
            options.has_batches = true;
        else if (strcmp(argv[i], "--records") == 0)
            options.has_records = options.has_batches = true;
        else if (strcmp(argv[i], "--group") == 0 && i + 1 < argc)
            options.group = strtol(argv[++i], NULL, 10);
        else if (argv[i][0] != '-' && data == NULL)
            data = argv[i];
        else
            return usage();
    }
    if (data == NULL) return usage();
    return rk_backup_is_one(rk_fs_posix(), data) ? rk_backup_show(data)
                                                 : inspect(data, &options);
}
