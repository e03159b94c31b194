/* entry_log_private.h - for recovery alone. */
#ifndef RK_STORAGE_ENTRY_LOG_PRIVATE_H
#define RK_STORAGE_ENTRY_LOG_PRIVATE_H

#include "storage/entry_log.h"

/* Empty, beginning after index, before anything is expected from a batch. term 0: not known
 * (the entries in question are compacted by a later record). */
void rk_entry_log_begin(struct rk_entry_log *log, uint64_t index, uint64_t term);
/* Truncates to below the log's base: it begins after from - 1, whose term is not known. */
void rk_entry_log_cut_below(struct rk_entry_log *log, uint64_t from);
/* The term of first - 1, once it is known. */
void rk_entry_log_set_base_term(struct rk_entry_log *log, uint64_t term);
/* The term of the last entry, or of what was compacted. */
uint64_t rk_entry_log_last_term(const struct rk_entry_log *log);
#endif
