/* fault.h - how an error of an input is told: which field, what it was, what is allowed.
 * Private to core/api. */
#ifndef RK_API_FAULT_H
#define RK_API_FAULT_H

#include "api/table.h"

/* Where a field stands: list and index name the item it is in, if any. */
struct rk_place {
    struct rk_api_error *error;
    const char *list; /* "messages", or NULL */
    const char *sub;  /* "unique", or NULL */
    uint32_t index;
    bool is_read; /* every field that was given has its bit in `present` */
};

/* Notes field and text, "<field>: <what is wrong>", and returns status. */
__attribute__((format(printf, 4, 5))) enum rk_status rk_fault(const struct rk_place *place,
                                                              enum rk_status status,
                                                              const char *name,
                                                              const char *format, ...);

/* An unknown name, with the nearest known one if any is near. */
enum rk_status rk_fault_unknown(const struct rk_place *place, struct rk_slice name,
                                const struct rk_rules *lists, size_t list_count);
#endif
