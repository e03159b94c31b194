/* request_parts.h - what the readers, the check and the writers of requests share.
 * Private to core/api. */
#ifndef RK_API_REQUEST_PARTS_H
#define RK_API_REQUEST_PARTS_H

#include "api/fault.h"
#include "base/arena.h"

/* A field's number in its owner, whatever its width; signed ones in two's complement. */
uint64_t rk_field_number(const struct rk_field_info *info, const void *base);
void rk_field_set_number(const struct rk_field_info *info, void *base, uint64_t number);
bool rk_field_is_number(const struct rk_field_info *info);
/* Not zero; of texts and values: not NULL. */
bool rk_field_is_valued(const struct rk_field_info *info, const void *base);
/* The word's number, -1 if it is none. */
int rk_field_word(const struct rk_field_info *info, struct rk_slice text);

/* rk_request_check with more known about where the request comes from. */
enum rk_status rk_request_check_at(const struct rk_place *place,
                                   struct rk_request *request);
enum rk_status rk_fault_words(const struct rk_place *place,
                              const struct rk_field_info *info);
enum rk_status rk_check_number(const struct rk_place *place,
                               const struct rk_field_rule *rule, bool is_negative,
                               uint64_t number);
enum rk_status rk_check_text(const struct rk_place *place, const struct rk_field_rule *rule,
                             struct rk_slice text);
#endif
