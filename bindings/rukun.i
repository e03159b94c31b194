/* rukun.i - the private modules of both bindings, made from the public header.
 *
 * Only what a language cannot say by itself is here: bytes, identifiers, errors, options.
 * The layers over it, python/rukun and lua/rukun, are written by hand; nothing else may
 * use this module. Typemaps match the names of parameters in rukun.h. */
%module rukun

%{
#include "rukun.h"
#include "options.h"
%}

#if !defined(SWIGPYTHON) && !defined(SWIGLUA)
#error "rukun.i is for Python and Lua"
#endif

#if defined(SWIGPYTHON)
/* A name that is misspelt is an error, not a new attribute. */
%pythonnondynamic;
#endif
%nodefaultctor;

%rename("%(regex:/^(?:rukun_|RUKUN_)(.*)/\\1/)s") "";

/* Options, errors, messages and texts travel as values of the language. */
%ignore rukun_error;
%ignore rukun_options;
%ignore rukun_lock_opts;
%ignore rukun_publish_opts;
%ignore rukun_consume_opts;
%ignore rukun_put_opts;
%ignore rukun_message;
%ignore RUKUN_WAIT_FOREVER;
%rename("$ignore", regextarget=1, fullname=1) "^rukun_\\w+_init$";
%rename("$ignore", regextarget=1, fullname=1) "^rukun_\\w+_free$";
%rename("$ignore", regextarget=1, fullname=1) "^rukun_text_\\w+$";

/* What a destructor frees needs a body here; in C the types stay opaque. Children retain
 * the client in C, so the order in which a collector frees them does not matter. */
struct rukun_client {};
struct rukun_lock {};
struct rukun_deliveries {};
struct rukun_value {};
%extend rukun_client { ~rukun_client() { rukun_client_free($self); } }
%extend rukun_lock { ~rukun_lock() { rukun_lock_free($self); } }
%extend rukun_deliveries { ~rukun_deliveries() { rukun_deliveries_free($self); } }
%extend rukun_value { ~rukun_value() { rukun_value_free($self); } }

#if defined(SWIGPYTHON)
%include "python/python.i"
#else
%include "lua/lua.i"
#endif

%include "rukun.h"
