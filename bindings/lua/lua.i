/* lua.i - Lua's half of rukun.i. A failed call returns nil, message, code and a table with
 * the rest; what Lua raises is programming errors only. Integers stay integers, exact. */

%{
#include <limits.h>
#include <stdlib.h>

/* --- Ctrl-C: lua(1) answers SIGINT with a hook that raises at the next instruction. While a
 * call blocks there is none, so the call asks whether that hook is there. */
static int interrupted(void *context)
{
    lua_State *L = context;
    int everything = LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT;
    return lua_gethook(L) != NULL && lua_gethookmask(L) == everything &&
           lua_gethookcount(L) == 1;
}

static lua_State *main_thread(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    lua_State *main = lua_tothread(L, -1);
    lua_pop(L, 1);
    return main;
}

/* --- values in: each raises where the value does not fit */

static const char *text_take(lua_State *L, int at, const char *name)
{
    if (lua_isnil(L, at)) return NULL;
    if (lua_type(L, at) != LUA_TSTRING)
        luaL_error(L, "%s: expected string, got %s", name, luaL_typename(L, at));
    size_t size = 0;
    const char *text = lua_tolstring(L, at, &size);
    if (strlen(text) != size) luaL_error(L, "%s: has a NUL character", name);
    return text;
}

static lua_Integer integer_take(lua_State *L, int at, const char *name)
{
    int is_integer = 0;
    lua_Integer number = lua_type(L, at) == LUA_TNUMBER ? lua_tointegerx(L, at, &is_integer)
                                                        : 0;
    if (!is_integer)
        luaL_error(L, "%s: expected integer, got %s", name, luaL_tolstring(L, at, NULL));
    return number;
}

static uint64_t unsigned_take(lua_State *L, int at, const char *name, uint64_t max)
{
    lua_Integer number = integer_take(L, at, name);
    if (number < 0 || (uint64_t)number > max)
        luaL_error(L, "%s: %I is not in 0..%I", name, (LUAI_UACINT)number,
                   (LUAI_UACINT)max);
    return (uint64_t)number;
}

/* false is for ever, or the topic's own backoff. */
static uint64_t wait_take(lua_State *L, int at, const char *name)
{
    if (lua_isboolean(L, at) && !lua_toboolean(L, at)) return RUKUN_WAIT_FOREVER;
    return unsigned_take(L, at, name, INT64_MAX);
}

static void option_take(lua_State *L, int index, const struct option *option, void *opts)
{
    char *at = (char *)opts + option->offset;
    const char *name = option->name;
    switch (option->kind) {
    case OPTION_TEXT: *(const char **)at = text_take(L, index, name); break;
    case OPTION_WAIT: *(uint64_t *)at = wait_take(L, index, name); break;
    case OPTION_UINT64: *(uint64_t *)at = unsigned_take(L, index, name, INT64_MAX); break;
    case OPTION_UINT32:
        *(uint32_t *)at = (uint32_t)unsigned_take(L, index, name, UINT32_MAX);
        break;
    case OPTION_INT: {
        lua_Integer number = integer_take(L, index, name);
        if (number < INT_MIN || number > INT_MAX)
            luaL_error(L, "%s: %I is no small integer", name, (LUAI_UACINT)number);
        *(int *)at = (int)number;
        break;
    }
    case OPTION_BOOLEAN: *(int *)at = lua_toboolean(L, index); break;
    case OPTION_MODE:
        *(rukun_mode *)at = lua_toboolean(L, index) ? RUKUN_SHARED : RUKUN_EXCLUSIVE;
        break;
    }
}

/* Texts are borrowed from the table, which stays on the stack for the call. */
static void options_take(lua_State *L, int index, const struct option *options, void *opts)
{
    if (lua_isnil(L, index)) return;
    luaL_checktype(L, index, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
        const struct option *option = option_find(options, name);
        if (option == NULL) luaL_error(L, "there is no option %s", name);
        option_take(L, lua_gettop(L), option, opts);
        lua_pop(L, 1);
    }
}

/* A message is {data, encoding}; the bytes are borrowed from the table. */
static void message_take(lua_State *L, int index, rukun_message *out)
{
    if (!lua_istable(L, index)) luaL_error(L, "a message is {data, encoding}");
    if (lua_rawgeti(L, index, 1) != LUA_TSTRING || lua_rawgeti(L, index, 2) != LUA_TNUMBER)
        luaL_error(L, "a message is {data, encoding}");
    out->data = lua_tolstring(L, -2, &out->size);
    out->encoding = (rukun_encoding)integer_take(L, -1, "encoding");
    lua_pop(L, 2);
}

/* The memory is the stack's: a raised error frees it. */
static const rukun_message *messages_take(lua_State *L, int index, size_t *count)
{
    luaL_checktype(L, index, LUA_TTABLE);
    *count = (size_t)lua_rawlen(L, index);
    rukun_message *messages = lua_newuserdatauv(L, (*count + 1) * sizeof(*messages), 0);
    for (size_t i = 0; i < *count; i++) {
        lua_rawgeti(L, index, (lua_Integer)i + 1);
        message_take(L, lua_gettop(L), &messages[i]);
        lua_pop(L, 1);
    }
    return messages;
}

/* --- errors out */

static int error_push(lua_State *L, rukun_status status, const rukun_error *err)
{
    lua_pushnil(L);
    lua_pushstring(L, err->message[0] != '\0' ? err->message : rukun_status_name(status));
    lua_pushstring(L, rukun_status_name(status));
    lua_createtable(L, 0, 6);
    lua_pushstring(L, err->field);
    lua_setfield(L, -2, "field");
    lua_pushstring(L, err->node);
    lua_setfield(L, -2, "node");
    lua_pushstring(L, err->outcome == RUKUN_OUTCOME_UNKNOWN ? "unknown" : "not_done");
    lua_setfield(L, -2, "outcome");
    lua_pushboolean(L, err->retryable);
    lua_setfield(L, -2, "retryable");
    lua_pushinteger(L, (lua_Integer)err->request_id);
    lua_setfield(L, -2, "request_id");
    lua_pushinteger(L, (lua_Integer)err->retry_after_ms);
    lua_setfield(L, -2, "retry_after_ms");
    return 4;
}
%}

%wrapper %{
/* The name under which require "rukun._rukun" looks for it. */
SWIGEXPORT int luaopen_rukun__rukun(lua_State *L)
{
    return SWIG_init(L);
}
%}

/* --- typemaps in */

%typemap(in, checkfn="SWIG_lua_any") const char * %{
    $1 = ($1_ltype)text_take(L, $input, "$1_name"); %}
%typemap(in, checkfn="SWIG_lua_any") uint64_t %{
    $1 = unsigned_take(L, $input, "$1_name", INT64_MAX); %}
%typemap(in, checkfn="SWIG_lua_any") uint64_t delay_ms %{
    $1 = wait_take(L, $input, "$1_name"); %}
%typemap(in, checkfn="SWIG_lua_any") int64_t %{
    $1 = integer_take(L, $input, "$1_name"); %}
%typemap(in, checkfn="SWIG_lua_any") size_t %{
    $1 = (size_t)unsigned_take(L, $input, "$1_name", INT64_MAX); %}
%typemap(in, checkfn="SWIG_lua_any") rukun_status %{
    $1 = (rukun_status)integer_take(L, $input, "$1_name"); %}

%define OPTIONS_IN(TYPE, TABLE)
%typemap(in, checkfn="SWIG_lua_any") const TYPE *opts (TYPE temp) %{
    TYPE##_init(&temp);
    options_take(L, $input, TABLE, &temp);
    $1 = &temp; %}
%enddef
OPTIONS_IN(rukun_lock_opts, lock_options)
OPTIONS_IN(rukun_publish_opts, publish_options)
OPTIONS_IN(rukun_consume_opts, consume_options)
OPTIONS_IN(rukun_put_opts, put_options)

%typemap(in, checkfn="SWIG_lua_any") const rukun_options *opts (rukun_options temp) %{
    rukun_options_init(&temp);
    options_take(L, $input, client_options, &temp);
    temp.interrupted = interrupted;
    temp.context = main_thread(L);
    $1 = &temp; %}

%typemap(in, checkfn="SWIG_lua_any") const rukun_message * (rukun_message temp) %{
    message_take(L, $input, &temp);
    $1 = &temp; %}
%typemap(in, checkfn="SWIG_lua_any") (const rukun_message *messages, size_t count) %{
    $1 = ($1_ltype)messages_take(L, $input, &$2); %}

/* --- typemaps out. Results are pushed when the call succeeded; `true` stands for none. */

%typemap(out) rukun_status %{ %}
%typemap(out) uint64_t, uint32_t, size_t, int64_t, int %{
    lua_pushinteger(L, (lua_Integer)$1);
    SWIG_arg++; %}
%typemap(out) rukun_lock_state, rukun_encoding %{
    lua_pushinteger(L, (lua_Integer)$1);
    SWIG_arg++; %}

%define OUT(TYPE)
%typemap(in, numinputs=0) TYPE **out (TYPE *temp = NULL) %{ $1 = &temp; %}
%typemap(argout) TYPE **out %{
    if (result == RUKUN_OK) {
        SWIG_NewPointerObj(L, *$1, $*1_descriptor, 1);
        SWIG_arg++;
    } %}
%enddef
OUT(rukun_client)
OUT(rukun_lock)
OUT(rukun_deliveries)
OUT(rukun_value)

%typemap(in, numinputs=0) rukun_text **out (rukun_text *temp = NULL) %{ $1 = &temp; %}
%typemap(argout) rukun_text **out %{
    if (result == RUKUN_OK) {
        lua_pushlstring(L, rukun_text_data(*$1), rukun_text_size(*$1));
        SWIG_arg++;
    }
    rukun_text_free(*$1); %}

%typemap(in, numinputs=0) char *id (char temp[RUKUN_ID_SIZE]) %{
    temp[0] = '\0';
    $1 = temp; %}
%typemap(argout) char *id %{
    if (result == RUKUN_OK) {
        lua_pushstring(L, $1);
        SWIG_arg++;
    } %}
%typemap(argout) const char *id "";

/* As many as were given; an id is never empty. */
%typemap(in, numinputs=0) char *ids "";
%typemap(check) char *ids %{
    $1 = lua_newuserdatauv(L, 1001 * RUKUN_ID_SIZE, 0);
    memset($1, 0, 1001 * RUKUN_ID_SIZE); %}
%typemap(argout) char *ids %{
    if (result == RUKUN_OK) {
        lua_newtable(L);
        lua_Integer number = 0;
        for (const char *id = $1; *id != '\0'; id += RUKUN_ID_SIZE) {
            lua_pushstring(L, id);
            lua_rawseti(L, -2, ++number);
        }
        SWIG_arg++;
    } %}

%define NUMBER_OUT(TYPE, NAME, PUSH)
%typemap(in, numinputs=0) TYPE *NAME (TYPE temp = 0) %{ $1 = &temp; %}
%typemap(argout) TYPE *NAME %{
    if (result == RUKUN_OK) {
        PUSH(L, *$1);
        SWIG_arg++;
    } %}
%enddef
NUMBER_OUT(uint64_t, version, lua_pushinteger)
NUMBER_OUT(int64_t, value, lua_pushinteger)
NUMBER_OUT(int, deleted, lua_pushboolean)

%typemap(in, numinputs=0) size_t *size (size_t temp = 0) %{ $1 = &temp; %}
%typemap(out) const void * %{ %}
%typemap(argout) size_t *size %{
    lua_pushlstring(L, result, *$1);
    SWIG_arg++; %}

/* Last of all parameters, so it has the last word about the result. */
%typemap(in, numinputs=0) rukun_error *err (rukun_error temp) %{
    rukun_error_init(&temp);
    $1 = &temp; %}
%typemap(argout) rukun_error *err %{
    if (result != RUKUN_OK) {
        SWIG_arg = error_push(L, result, $1);
    } else if (SWIG_arg == 0) {
        lua_pushboolean(L, 1);
        SWIG_arg = 1;
    } %}

%{
/* Every value may come; the typemap itself says what is wrong with it. */
static int SWIG_lua_any(lua_State *L, int index)
{
    (void)L;
    (void)index;
    return 1;
}
%}
