# Writes the bytes of INPUT as a C array to OUTPUT.
file(READ ${INPUT} bytes HEX)
string(LENGTH "${bytes}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUTPUT} "#include <stdint.h>
extern const uint8_t rk_ui_page[];
extern const uint32_t rk_ui_page_size;
const uint8_t rk_ui_page[] = {${bytes}};
const uint32_t rk_ui_page_size = ${size};
")
