/* error.h - the one-line text that goes with a status of this module.
 *
 * It lives in the caller's struct and names file, offset and values. Every function
 * that takes one accepts NULL. It is written only when the status is not RK_OK. */
#ifndef RK_STORAGE_ERROR_H
#define RK_STORAGE_ERROR_H

#include "base/status.h"

enum { RK_STORAGE_MESSAGE_MAX = 384 };

struct rk_storage_error {
    char message[RK_STORAGE_MESSAGE_MAX];
};

/* Writes the text if error is not NULL, and gives status back. */
__attribute__((format(printf, 3, 4))) enum rk_status
rk_storage_fail(struct rk_storage_error *error, enum rk_status status, const char *format,
                ...);
#endif
