/* schema.h - the table as an OpenAPI tree, for the printers. Private to core/api. */
#ifndef RK_API_SCHEMA_H
#define RK_API_SCHEMA_H

#include "api/table.h"

#include <jansson.h>

/* The whole document; json_decref it. NULL without memory. */
json_t *rk_schema_openapi(void);

/* What a member of a reply means; NULL: nobody wrote it down. */
const char *rk_part_doc(const char *name);
#endif
