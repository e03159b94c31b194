# Writes the bytes of all PARTS (a|b|c) as a C string to OUTPUT.
string(REPLACE "|" ";" PARTS "${PARTS}")
set(bytes "")
foreach(part ${PARTS})
    file(READ ${part} part_bytes HEX)
    string(APPEND bytes "${part_bytes}")
endforeach()
string(LENGTH "${bytes}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" bytes "${bytes}")
file(WRITE ${OUTPUT} "#include <stdint.h>
extern const char rk_lua_${NAME}[];
extern const uint32_t rk_lua_${NAME}_size;
const char rk_lua_${NAME}[] = \"${bytes}\";
const uint32_t rk_lua_${NAME}_size = ${size};
")
