#include "host/restore.h"

#include "host/host_internal.h"

#include <inttypes.h>
#include <stdio.h>

/* Backups that were laid into a folder, and what becomes of them at the birth. */

static const char backup_name[] = "backup";
static const char unfinished_name[] = "backup.tmp";

enum {
    SLICE_BYTES = 256 << 10,
    YEAR_2020 = 1577836800, /* seconds since 1970 */
    RESTORED_TERM = 1,      /* of the entry that the first snapshots stand for */
    INDEX_STEP = 1 << 20,   /* at least so far beyond the backup's index */
};

/* --- loading ------------------------------------------------------------------------- */

struct load {
    const struct rk_backup_reader *backup;
    struct rk_restore_group *found; /* NULL: not wanted */
    uint32_t group;
    uint32_t version_max;
    uint64_t index; /* to be the machine's */
};

static void record_count(struct rk_restore_group *found, const struct rk_machine *machine,
                         struct rk_slice record)
{
    found->records++;
    if (record.size == 0 || record.data[0] >= RK_RESTORE_KINDS) return;
    found->kinds[record.data[0]].name = rk_machine_record_name(machine, record);
    found->kinds[record.data[0]].count++;
}

static enum rk_status records_load(const struct load *load, struct rk_machine *machine,
                                   struct rk_snapshot_reader *snapshot,
                                   struct rk_storage_error *error)
{
    char why[RK_MACHINE_WHY_SIZE];
    for (;;) {
        struct rk_slice record;
        bool is_end = false;
        enum rk_status status = rk_snapshot_reader_next(snapshot, &record, &is_end, error);
        if (status != RK_OK || is_end) return status;
        status = rk_machine_restore(machine, record);
        if (status != RK_OK) {
            rk_machine_explain_record(machine, record, why);
            return rk_storage_fail(error, status == RK_EPROTO ? RK_ECORRUPT : status,
                                   "backup: group %" PRIu32 ": a record does not load: %s",
                                   load->group,
                                   why[0] != '\0' ? why : rk_status_text(status));
        }
        if (load->found != NULL) record_count(load->found, machine, record);
    }
}

static enum rk_status machine_load(const struct load *load, struct rk_machine **out,
                                   struct rk_storage_error *error)
{
    const struct rk_machine_options options = {.struct_size = sizeof(options),
                                               .group = load->group,
                                               .version_max = load->version_max};
    struct rk_snapshot_reader *snapshot = NULL;
    struct rk_machine *machine = NULL;
    (void)rk_storage_fail(error, RK_ENOMEM, "out of memory");
    enum rk_status status = rk_machine_new(&machine, &options);
    if (status == RK_OK)
        status = rk_backup_snapshot_open(load->backup, &snapshot, load->group, error);
    if (status == RK_EPROTO) status = RK_EUNSUPPORTED;
    if (status == RK_OK) status = records_load(load, machine, snapshot, error);
    if (status == RK_OK)
        status = rk_backup_snapshot_check(load->backup, load->group, snapshot, error);
    if (status == RK_OK) {
        status = rk_machine_restore_finish(machine, load->index);
        if (status == RK_EPROTO)
            status = rk_storage_fail(error, RK_ECORRUPT,
                                     "backup: group %" PRIu32 ": its records do not fit",
                                     load->group);
    }
    if (status == RK_OK && load->found != NULL)
        load->found->history = rk_snapshot_reader_header(snapshot)->history;
    rk_snapshot_reader_free(snapshot);
    if (status != RK_OK) {
        rk_machine_free(machine);
        return status;
    }
    *out = machine;
    return RK_OK;
}

/* --- verify -------------------------------------------------------------------------- */

static enum rk_status reader_open(struct rk_backup_reader **out, struct rk_fs *fs,
                                  const char *path, struct rk_storage_error *error)
{
    enum rk_status status = rk_backup_reader_open(out, fs, path, error);
    if (status == RK_EPROTO) return RK_EUNSUPPORTED;
    if (status != RK_OK) return status;
    uint32_t groups = rk_backup_reader_header(*out)->group_count;
    if (groups >= 2 && groups <= RK_HOST_GROUPS_MAX + 1) return RK_OK;
    rk_backup_reader_free(*out);
    return rk_storage_fail(error, RK_EUNSUPPORTED,
                           "%s: a backup of %" PRIu32
                           " groups; this program serves 2 to %d",
                           path, groups, RK_HOST_GROUPS_MAX + 1);
}

static enum rk_status group_verify(const struct rk_backup_reader *backup, uint32_t group,
                                   const struct rk_restore_report *report,
                                   struct rk_storage_error *error)
{
    const struct rk_backup_part *part = rk_backup_reader_part(backup, group);
    struct rk_restore_group found = {
        .group = group, .index = part->index, .term = part->term, .bytes = part->bytes};
    const struct load load = {backup, &found, group, 0, part->index};
    struct rk_machine *machine = NULL;
    enum rk_status status = machine_load(&load, &machine, error);
    if (status != RK_OK) return status;
    found.machine_version = rk_machine_version(machine);
    rk_machine_free(machine);
    if (report != NULL) report->group(report->context, &found);
    return RK_OK;
}

enum rk_status rk_restore_verify(struct rk_fs *fs, const char *path,
                                 const struct rk_restore_report *report,
                                 struct rk_storage_error *error)
{
    struct rk_backup_reader *backup = NULL;
    enum rk_status status = reader_open(&backup, fs, path, error);
    if (status != RK_OK) return status;
    const struct rk_backup_header *header = rk_backup_reader_header(backup);
    if (report != NULL)
        report->header(report->context, header, rk_backup_reader_digest(backup),
                       rk_backup_reader_size(backup));
    for (uint32_t i = 0; status == RK_OK && i < header->group_count; i++)
        status = group_verify(backup, i, report, error);
    rk_backup_reader_free(backup);
    return status;
}

/* --- prepare ------------------------------------------------------------------------- */

static enum rk_status name_check(void *context, const char *name)
{
    static const char *const ours[] = {"wal",     "snap",      "lock",
                                       "reserve", backup_name, unfinished_name};
    char *found = context;
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (strcmp(name, ours[i]) == 0) (void)snprintf(found, 16, "%s", name);
    return RK_OK;
}

static enum rk_status data_check(struct rk_fs *fs, const char *data,
                                 struct rk_storage_error *error)
{
    char found[16] = "";
    enum rk_status status = rk_fs_make_dir(fs, data);
    if (status == RK_OK) status = fs->list(fs, data, name_check, found);
    if (status != RK_OK)
        return rk_storage_fail(error, status, "%s: the folder can not be made or read: %s",
                               data, rk_status_text(status));
    if (found[0] != '\0')
        return rk_storage_fail(
            error, RK_EEXIST,
            "%s: holds data of a node already (%s); a backup is restored "
            "into an empty folder only",
            data, found);
    return RK_OK;
}

enum rk_status
rk_restore_load(struct rk_fs *fs, const char *path,
                enum rk_status (*machine)(void *context, struct rk_machine *machine,
                                          const struct rk_restore_group *found),
                void *context, struct rk_storage_error *error)
{
    struct rk_backup_reader *backup = NULL;
    enum rk_status status = reader_open(&backup, fs, path, error);
    if (status != RK_OK) return status;
    uint32_t count = rk_backup_reader_header(backup)->group_count;
    for (uint32_t i = 0; status == RK_OK && i < count; i++) {
        const struct rk_backup_part *part = rk_backup_reader_part(backup, i);
        struct rk_restore_group found = {.group = i, .index = part->index};
        const struct load load = {backup, &found, i, 0, part->index};
        struct rk_machine *loaded = NULL;
        status = machine_load(&load, &loaded, error);
        if (status == RK_OK) {
            status = rk_machine_retire(loaded);
            if (status != RK_OK) (void)rk_storage_fail(error, status, "out of memory");
        }
        if (status == RK_OK) status = machine(context, loaded, &found);
        rk_machine_free(loaded);
    }
    rk_backup_reader_free(backup);
    return status;
}

enum rk_status rk_restore_prepare(struct rk_fs *fs, const char *path, const char *data,
                                  struct rk_storage_error *error)
{
    enum rk_status status = data_check(fs, data, error);
    if (status == RK_OK) status = rk_restore_verify(fs, path, NULL, error);
    if (status == RK_OK) status = rk_backup_copy(fs, path, data, backup_name, error);
    return status;
}

/* --- the folder at the start --------------------------------------------------------- */

static bool exists(struct rk_fs *fs, const char *path)
{
    struct rk_file *file = NULL;
    if (fs->open(fs, &file, path, 0) == RK_ENOENT) return false;
    fs->close(file);
    return true;
}

/* What the folder began from is of no use any more. */
enum rk_status rk_restore_forget(const struct rk_host_restore *restore, struct rk_fs *fs,
                                 struct rk_storage_error *error)
{
    if (!exists(fs, restore->path)) return RK_OK;
    enum rk_status status = fs->unlink(fs, restore->path);
    if (status == RK_OK) status = fs->sync_dir(fs, restore->dir);
    if (status == RK_OK) return RK_OK;
    return rk_storage_fail(error, status, "%s: can not be removed: %s", restore->path,
                           rk_status_text(status));
}

enum rk_status rk_host_restore_open(struct rk_host *host, const char *data,
                                    struct rk_storage_error *error)
{
    struct rk_host_restore *restore = &host->restore;
    char unfinished[RK_FS_PATH_MAX];
    struct rk_backup_reader *backup = NULL;
    if (rk_fs_join(restore->path, data, backup_name) != RK_OK ||
        rk_fs_join(unfinished, data, unfinished_name) != RK_OK)
        return rk_storage_fail(error, RK_ERANGE, "data: the path is too long");
    (void)snprintf(restore->dir, sizeof(restore->dir), "%s", data);
    if (host->number != 0) {
        struct rk_storage_error why = {""};
        if (rk_restore_forget(restore, host->fs, &why) != RK_OK)
            rk_host_log(host, RK_LOG_WARN, "%s", why.message);
        return RK_OK;
    }
    if (exists(host->fs, unfinished))
        return rk_storage_fail(error, RK_EINVAL,
                               "data: a restore was not finished; empty the folder and "
                               "restore again");
    if (!exists(host->fs, restore->path)) return RK_OK;
    enum rk_status status = reader_open(&backup, host->fs, restore->path, error);
    if (status != RK_OK) return status;
    restore->digest = rk_backup_reader_digest(backup);
    restore->group_count = rk_backup_reader_header(backup)->group_count - 1;
    rk_backup_reader_free(backup);
    rk_host_log(host, RK_LOG_INFO,
                "a backup waits for the birth of a new cluster: digest %016" PRIx64,
                restore->digest);
    return RK_OK;
}

/* --- the new beginning --------------------------------------------------------------- */

uint64_t rk_host_time_floor(const struct rk_host *host)
{
    uint64_t seconds = host->now.wall_ms / 1000;
    return seconds > YEAR_2020 ? (seconds - YEAR_2020) << 20 : 0;
}

/* Versions of cache entries are indexes: like fences they go on above all that the lost end
 * of the old history can have given out. */
static uint64_t restored_index(const struct rk_backup_part *part, uint64_t floor)
{
    return part->index + INDEX_STEP > floor ? part->index + INDEX_STEP : floor;
}

static enum rk_status block_write(struct rk_snapshot_encoder *encoder,
                                  struct rk_snapshot_file *file,
                                  struct rk_storage_error *error)
{
    struct rk_snapshot_block block;
    rk_snapshot_encoder_take(encoder, &block);
    enum rk_status status = rk_snapshot_file_write(file, &block, error);
    rk_buf_fini(&block.bytes);
    return status;
}

/* All of the machine's records, in slices, through the encoder into the file. */
static enum rk_status records_write(struct rk_machine *machine,
                                    struct rk_snapshot_encoder *encoder,
                                    struct rk_snapshot_file *file,
                                    struct rk_storage_error *error)
{
    struct rk_buf slice;
    bool is_done = false;
    rk_buf_init(&slice);
    enum rk_status status = rk_machine_snapshot_begin(machine);
    while (status == RK_OK && !is_done) {
        struct rk_reader in;
        rk_buf_reset(&slice);
        status = rk_machine_snapshot_step(machine, &slice, SLICE_BYTES, &is_done);
        rk_reader_init(&in, rk_buf_slice(&slice));
        while (status == RK_OK && rk_reader_left(&in) > 0)
            status = rk_snapshot_encoder_add(encoder, rk_read_blob(&in));
        if (status == RK_OK && is_done) status = rk_snapshot_encoder_finish(encoder);
        if (status == RK_OK) status = block_write(encoder, file, error);
    }
    rk_machine_snapshot_end(machine);
    rk_buf_fini(&slice);
    return status;
}

static enum rk_status snapshot_write(const struct rk_host_restore *restore,
                                     struct rk_machine *machine, struct rk_snapshot_id id,
                                     struct rk_storage_error *error)
{
    struct rk_snapshot_encoder encoder = {0};
    struct rk_snapshot_file *file = NULL;
    struct rk_buf conf;
    rk_buf_init(&conf);
    rk_raft_conf_state_encode(&conf, &restore->conf);
    const struct rk_snapshot_header header = {.id = id, .conf = rk_buf_slice(&conf)};
    (void)rk_storage_fail(error, RK_ENOMEM, "out of memory");
    enum rk_status status = rk_buf_check(&conf);
    if (status == RK_OK) status = rk_snapshot_encoder_init(&encoder, &header);
    if (status == RK_OK)
        status =
            rk_snapshot_file_create(&file, restore->fs, restore->snapshot_dir, id, error);
    if (status == RK_OK) status = records_write(machine, &encoder, file, error);
    if (status == RK_OK)
        status = rk_snapshot_file_finish(file, error);
    else
        rk_snapshot_file_abort(file);
    rk_snapshot_encoder_fini(&encoder);
    rk_buf_fini(&conf);
    return status;
}

static enum rk_status group_convert(struct rk_host_restore *restore,
                                    const struct rk_backup_reader *backup, uint32_t group,
                                    struct rk_storage_error *error)
{
    const struct rk_backup_part *part = rk_backup_reader_part(backup, group);
    struct rk_snapshot_id *id = &restore->ids[group];
    struct rk_machine *machine = NULL;
    *id = (struct rk_snapshot_id){group, restored_index(part, restore->index_floor),
                                  RESTORED_TERM};
    const struct load load = {backup, NULL, group, restore->machine_version, id->index};
    /* What an earlier attempt left. */
    const struct rk_snapshot_clean clean = {.keep = {.group = group},
                                            .remove_received = true};
    enum rk_status status = rk_snapshot_clean(restore->fs, restore->snapshot_dir, &clean);
    if (status != RK_OK)
        return rk_storage_fail(error, status, "%s: old snapshots stay: %s",
                               restore->snapshot_dir, rk_status_text(status));
    status = machine_load(&load, &machine, error);
    if (status != RK_OK) return status;
    status = rk_machine_retire(machine);
    if (status != RK_OK)
        rk_storage_fail(error, status, "out of memory");
    else
        status = snapshot_write(restore, machine, *id, error);
    rk_machine_free(machine);
    return status;
}

enum rk_status rk_restore_convert(struct rk_host_restore *restore,
                                  struct rk_storage_error *error)
{
    struct rk_backup_reader *backup = NULL;
    enum rk_status status = reader_open(&backup, restore->fs, restore->path, error);
    if (status != RK_OK) return status;
    if (rk_backup_reader_digest(backup) != restore->digest)
        status = rk_storage_fail(error, RK_ECORRUPT,
                                 "%s: is another backup than at the start", restore->path);
    for (uint32_t i = 0; status == RK_OK && i <= restore->group_count; i++)
        status = group_convert(restore, backup, i, error);
    rk_backup_reader_free(backup);
    return status;
}

void rk_host_restore_start(struct rk_host *host)
{
    struct rk_host_restore *restore = &host->restore;
    restore->is_running = true;
    restore->fs = host->fs;
    restore->snapshot_dir = host->snapshot_dir;
    restore->machine_version = host->machine_version;
    rk_host_first_conf(host, &restore->conf);
    rk_host_log(host, RK_LOG_INFO, "restores the backup %016" PRIx64, restore->digest);
    struct rk_host_work *work = rk_host_work_idle(host, RK_LANE_LONG);
    RK_ASSERT(work != NULL); /* no group is open that could have work */
    work->restore = restore;
    rk_host_work_start(host, work, RK_WORK_RESTORE);
}

/* The first snapshots are durable: the log names them in the batch that has the identity.
 */
enum rk_status rk_host_restore_mark(struct rk_host *host)
{
    const struct rk_host_restore *restore = &host->restore;
    struct rk_buf *conf = &host->scratch;
    enum rk_status status = RK_OK;
    for (uint32_t id = 0; status == RK_OK && id <= host->group_count; id++) {
        const struct rk_snapshot_id *snapshot = &restore->ids[id];
        const struct rk_raft_hard_state hard = {snapshot->term, 0, snapshot->index};
        rk_buf_reset(conf);
        rk_raft_conf_state_encode(conf, &restore->conf);
        status = rk_buf_check(conf);
        if (status == RK_OK)
            status = rk_wal_batch_install(host->filling, id, snapshot->index,
                                          snapshot->term, rk_buf_slice(conf));
        if (status == RK_OK) status = rk_wal_batch_hard_state(host->filling, id, hard);
    }
    return status;
}

/* What recovery would find in the log now. */
enum rk_status rk_host_restore_found(const struct rk_host *host, uint32_t group,
                                     struct rk_wal_group *out)
{
    const struct rk_snapshot_id *id = &host->restore.ids[group];
    memset(out, 0, sizeof(*out));
    out->is_present = true;
    out->hard = (struct rk_raft_hard_state){id->term, 0, id->index};
    out->mark_index = id->index;
    out->mark_term = id->term;
    rk_buf_init(&out->mark_conf);
    rk_buf_init(&out->meta);
    rk_raft_conf_state_encode(&out->mark_conf, &host->restore.conf);
    out->log = rk_entry_log_new(group, RK_ENTRY_LOG_CACHE_DEFAULT);
    if (out->log == NULL || rk_buf_check(&out->mark_conf) != RK_OK) return RK_ENOMEM;
    rk_entry_log_install(out->log, id->index, id->term);
    return RK_OK;
}

void rk_host_restore_done(struct rk_host *host)
{
    host->restore.is_running = false;
    host->restore.must_forget = true;
}

/* --- the other nodes ----------------------------------------------------------------- */

void rk_host_restore_compare(struct rk_host *host)
{
    struct rk_host_restore *restore = &host->restore;
    char text[sizeof(restore->differs)] = "";
    for (uint32_t i = 0; i < host->member_count && text[0] == '\0'; i++) {
        const struct rk_member *member = host->members[i];
        if (member == host->self || member->probe_ms == 0 ||
            rk_host_now(host) - member->probe_ms > RK_HOST_PROBE_FRESH_MS ||
            member->probe_backup == restore->digest)
            continue;
        if (member->probe_backup == 0)
            snprintf(text, sizeof(text),
                     "this node restores a backup, node %s has none: run rukund restore "
                     "there, too, or here start with an empty folder",
                     member->name);
        else if (restore->digest == 0)
            snprintf(text, sizeof(text),
                     "node %s restores a backup, this node has none: run rukund restore "
                     "here, too",
                     member->name);
        else
            snprintf(text, sizeof(text),
                     "node %s restores backup %016" PRIx64 ", this node %016" PRIx64
                     ": all need copies of one file",
                     member->name, member->probe_backup, restore->digest);
    }
    if (strcmp(text, restore->differs) == 0) return;
    memcpy(restore->differs, text, sizeof(text));
    if (text[0] != '\0') rk_host_log(host, RK_LOG_ERROR, "refused: %s", text);
}
