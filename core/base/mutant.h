/* mutant.h - planted bugs for the mutation test.
 *
 * RK_MUTANT(name) is 0 in every real build, and 1 where the build was configured with
 * -DRK_MUTANT=name. Each name breaks one rule that some test must notice. */
#ifndef RK_BASE_MUTANT_H
#define RK_BASE_MUTANT_H

/* Many of them in turn: what does not look at them is built once. */
#ifdef RK_MUTANT_HEADER
#include RK_MUTANT_HEADER
#endif

/* An undefined RK_MUTANT_<name> leaves a junk token that takes the first place, so the
 * pick is 0; defined as 1 it becomes "0," and moves the 1 to the second place. */
#define RK_MUTANT_PROBE_1                  0,
#define RK_MUTANT_PICK(first, second, ...) second
#define RK_MUTANT_PASTE(value)             RK_MUTANT_PROBED(RK_MUTANT_PROBE_##value)
#define RK_MUTANT_PROBED(probe)            RK_MUTANT_PICK(probe 1, 0, 0)
#define RK_MUTANT_VALUE(value)             RK_MUTANT_PASTE(value)
#define RK_MUTANT(name)                    RK_MUTANT_VALUE(RK_MUTANT_##name)

#endif
