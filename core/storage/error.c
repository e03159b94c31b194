#include "storage/error.h"

#include <stdarg.h>
#include <stdio.h>

enum rk_status rk_storage_fail(struct rk_storage_error *error, enum rk_status status,
                               const char *format, ...)
{
    if (error == NULL) return status;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(error->message, sizeof(error->message), format, arguments);
    va_end(arguments);
    return status;
}
