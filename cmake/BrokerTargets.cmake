# What every target of ours is built with.
#
# BROKER_SANITIZE names the sanitizers, as -fsanitize takes them: "address,undefined" or "thread".
add_library(broker_sanitizer INTERFACE)
if(BROKER_SANITIZE)
  target_compile_options(broker_sanitizer INTERFACE
    -fsanitize=${BROKER_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1
    # It looks at memory through a pipe, and takes the want of a file descriptor for a bad object.
    -fno-sanitize=vptr)
  target_link_options(broker_sanitizer INTERFACE -fsanitize=${BROKER_SANITIZE})
endif()

add_library(broker_options INTERFACE)
target_compile_features(broker_options INTERFACE cxx_std_20)
target_include_directories(broker_options INTERFACE "${PROJECT_SOURCE_DIR}")
target_link_libraries(broker_options INTERFACE broker_sanitizer)
target_compile_options(broker_options INTERFACE
  -Wall -Wextra -Werror
  # What the optimizer of GCC 12 believes to see in the standard library (its bugs 105651, 105562 and
  # 105329). Clang looks at the same code.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict -Wno-array-bounds -Wno-stringop-overflow
                            -Wno-maybe-uninitialized>
  # GCC ignores the thread annotations; only Clang checks them.
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety -Werror=thread-safety>)

# broker_library(<target> SOURCES ... DEPS ...): one room of the house. DEPS is the whole list of what
# it may see.
function(broker_library target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPS")
  add_library(${target} STATIC ${arg_SOURCES})
  target_link_libraries(${target} PUBLIC broker_options ${arg_DEPS})
endfunction()

# broker_test(<name> LABEL <core|rpc> SOURCES ... DEPS ... [TIMEOUT s] [ARGS ...]): a GoogleTest
# program and the test that runs it. Tests with the label "core" link no gRPC, so that ThreadSanitizer
# can be believed on them; a thread build makes only those.
function(broker_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "LABEL;TIMEOUT" "SOURCES;DEPS;ARGS;ENVIRONMENT")
  if(BROKER_CORE_ONLY AND NOT arg_LABEL STREQUAL "core")
    return()
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE broker_options ${arg_DEPS} GTest::gmock GTest::gtest_main)
  add_test(NAME ${BROKER_TEST_PREFIX}${name} COMMAND ${name} ${arg_ARGS})
  set_tests_properties(${BROKER_TEST_PREFIX}${name} PROPERTIES
    LABELS "${arg_LABEL}" TIMEOUT ${arg_TIMEOUT} ENVIRONMENT "${arg_ENVIRONMENT}")
endfunction()
