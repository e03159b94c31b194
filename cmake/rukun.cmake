# How every part of Rukun is compiled, and the two functions that declare parts.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

add_library(rk_flags INTERFACE)
target_compile_options(rk_flags INTERFACE
    $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes;-Wmissing-prototypes;-Wold-style-definition>
    -Wall -Wextra -Werror -Wshadow -Wpointer-arith -Wcast-qual -Wwrite-strings
    -Wformat=2 -Wundef -Wvla -fno-strict-aliasing -fno-common)
target_compile_definitions(rk_flags INTERFACE _GNU_SOURCE)
if(RK_SANITIZE)
    target_compile_options(rk_flags INTERFACE
        -fsanitize=${RK_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
    target_link_options(rk_flags INTERFACE -fsanitize=${RK_SANITIZE})
endif()
if(RK_MUTANT)
    target_compile_definitions(rk_flags INTERFACE RK_MUTANT_${RK_MUTANT}=1)
endif()
if(RK_MUTANT_HEADER)
    target_compile_definitions(rk_flags INTERFACE RK_MUTANT_HEADER="${RK_MUTANT_HEADER}")
endif()

# rk_library(NAME SOURCES a.c b.c DEPENDS rk_base PkgConfig::X)
# A static library whose headers are included as "<area>/<file>.h" from core/ or server/.
# DEPENDS is the whole list of what it may include: the layers of docs/architecture.md.
function(rk_library name)
    cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS" ${ARGN})
    add_library(${name} STATIC ${arg_SOURCES})
    target_link_libraries(${name} PRIVATE rk_flags PUBLIC ${arg_DEPENDS})
    target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR}/core)
endfunction()

# rk_test(NAME SOURCES a.c DEPENDS rk_base [LABELS unit] [TIMEOUT seconds])
# A cmocka program run by ctest under its target's name. Labels that `./dev test` knows:
# threads (once more under ThreadSanitizer), fuzz (built by clang), long and bench (with --all).
add_custom_target(threaded)
function(rk_test name)
    cmake_parse_arguments(arg "" "TIMEOUT" "SOURCES;DEPENDS;LABELS;ARGS" ${ARGN})
    if(NOT RK_TESTS)
        return()
    endif()
    pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
    add_executable(${name} ${arg_SOURCES})
    target_link_libraries(${name} PRIVATE rk_flags ${arg_DEPENDS} PkgConfig::CMOCKA)
    add_test(NAME ${name} COMMAND ${name} ${arg_ARGS})
    if(NOT arg_LABELS)
        set(arg_LABELS unit)
    endif()
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 180) # so that what hangs ends
    endif()
    set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT})
    if(threads IN_LIST arg_LABELS)
        add_dependencies(threaded ${name})
    endif()
endfunction()
